"""What a drawn person looks like: skin, head shape, features, hair, clothes and accessories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidgen.data.synthetic.draws import choose, person_generator, rgb, uniform, vary

Colour = npt.NDArray[np.float32]

#: People in the cast of one seed.
CAST = 200

SKINS = {
    "porcelain": "f5d3bc",
    "fair": "f3c9aa",
    "light": "e8b68f",
    "olive": "d6a377",
    "tan": "c68d60",
    "bronze": "a9714a",
    "brown": "8a5836",
    "deep": "74492f",
    "dark": "5f3c2a",
}
HAIRS = {
    "black": "231c1d",
    "dark brown": "3f2a1f",
    "chestnut": "6a4126",
    "auburn": "8a3d1f",
    "ginger": "c2622a",
    "dark blond": "a47e48",
    "blond": "dcb567",
    "grey": "9a999d",
    "white": "dedbd6",
    "teal": "2f7f86",
    "pink": "d0708f",
}
IRISES = ("4a2e1b", "6b4424", "8a6a35", "4e7a4a", "3d7ea6", "6c8ea3", "2b2320")
CLOTHES = (
    "d94f4f", "e58a3c", "e6c14a", "5fa867", "3f8f8b", "4a7fc1", "5a5fb5", "8a5aa8", "c65c8c", "e9e4da", "4b5563",
    "27313f", "b5533c", "7fb7d6", "93b572",
)  # fmt: skip
BACKDROPS = (
    ("9fc5e8", "e8f1f8"), ("f3c9a5", "fbeede"), ("a8d5ba", "eaf6ee"), ("c9b6e4", "f1ebfa"), ("f2b5b5", "fdeeee"),
    ("8fa9c4", "cfdbe7"), ("f0d58c", "fcf5dc"), ("7fb5b5", "d3eaea"), ("b7bcc6", "eceef1"), ("5f7a9c", "a9bdd4"),
    ("d99b7c", "f3d6c3"), ("6c8f7b", "b9d0c1"),
)  # fmt: skip

HAIR_STYLES = (
    "short", "side part", "quiff", "spiky", "curly", "afro", "buzz", "bald", "receding", "fringe bob", "bob", "long",
    "long wavy", "bun", "ponytail",
)  # fmt: skip
_HAIR_WEIGHTS = (1.2, 1.2, 1.0, 0.8, 0.9, 0.7, 0.6, 0.5, 0.5, 1.0, 1.0, 1.2, 1.0, 0.8, 0.8)
#: Styles that come with a beard now and then.
_BEARDED = ("short", "side part", "quiff", "spiky", "curly", "afro", "buzz", "bald", "receding")


@dataclass(frozen=True)
class FaceIdentity:
    """The looks of one person; lengths in canvas units (2 is the width of the picture).

    Attributes:
        half_width, half_height: of the head.
        taper, squareness: how far the jaw narrows, and how wide it is above the chin.
        eye_shape: outer corners up (positive) or down, in eye heights.
        hair_line: v coordinate (y on the head, downwards) where the hair ends on the forehead.
    """

    number: int
    skin_name: str
    skin: Colour
    half_width: float
    half_height: float
    taper: float
    squareness: float
    ear_size: float
    eye_distance: float
    eye_width: float
    eye_height: float
    eye_line: float
    eye_shape: float
    iris: Colour
    lashes: float
    brow_thickness: float
    brow_arch: float
    brow_height: float
    nose_length: float
    nose_width: float
    mouth_width: float
    mouth_line: float
    lip_fullness: float
    lip: Colour
    hair_name: str
    hair: Colour
    hair_style: str
    hair_line: float
    part_side: float
    beard: str
    glasses: str
    glasses_colour: Colour
    hat: str
    hat_colour: Colour
    earrings: bool
    freckles: bool
    blush: float
    clothes: Colour
    collar: str
    collar_colour: Colour


def face_identity(seed: int, person: int) -> FaceIdentity:
    """Person ``person`` (0 to ``CAST`` - 1) of the cast of ``seed``."""
    rng = person_generator(seed, person)
    skin_name = choose(rng, tuple(SKINS))
    skin = vary(rng, rgb(SKINS[skin_name]), 0.04)
    hair_style = choose(rng, HAIR_STYLES, _HAIR_WEIGHTS)
    hair_name = _hair_colour(rng, skin_name)
    hair = vary(rng, rgb(HAIRS[hair_name]), 0.08)
    feminine = hair_style not in _BEARDED or rng.random() < 0.25
    half_width = uniform(rng, 0.435, 0.5)
    lip = skin * np.array([0.86, 0.58, 0.57], np.float32)
    if feminine and rng.random() < 0.5:
        lip = 0.5 * lip + 0.5 * rgb(choose(rng, ("c23b4e", "a83250", "d0606a", "b3475f")))
    beards = ("none",) if feminine else ("none", "none", "stubble", "full", "goatee", "moustache")
    hats = ("none",) * 8 + ("beanie", "headband", "cap")
    return FaceIdentity(
        number=person,
        skin_name=skin_name,
        skin=skin,
        half_width=half_width,
        half_height=uniform(rng, 0.555, 0.61),
        taper=uniform(rng, 0.16, 0.3) if feminine else uniform(rng, 0.06, 0.2),
        squareness=uniform(rng, 0.0, 0.12) if feminine else uniform(rng, 0.08, 0.26),
        ear_size=uniform(rng, 0.1, 0.135),
        eye_distance=uniform(rng, 0.185, 0.215),
        eye_width=uniform(rng, 0.1, 0.122),
        eye_height=uniform(rng, 0.066, 0.09),
        eye_line=uniform(rng, -0.05, -0.01),
        eye_shape=uniform(rng, -0.12, 0.28),
        iris=vary(rng, rgb(choose(rng, IRISES)), 0.1),
        lashes=uniform(rng, 0.6, 1.0) if feminine else uniform(rng, 0.2, 0.5),
        brow_thickness=uniform(rng, 0.032, 0.045) if feminine else uniform(rng, 0.042, 0.065),
        brow_arch=uniform(rng, 0.02, 0.06),
        brow_height=uniform(rng, 0.125, 0.15),
        nose_length=uniform(rng, 0.15, 0.2),
        nose_width=uniform(rng, 0.06, 0.092),
        mouth_width=uniform(rng, 0.135, 0.175),
        mouth_line=uniform(rng, 0.305, 0.345),
        lip_fullness=uniform(rng, 0.03, 0.052) if feminine else uniform(rng, 0.02, 0.036),
        lip=np.asarray(lip, np.float32),
        hair_name=hair_name,
        hair=hair,
        hair_style=hair_style,
        hair_line=uniform(rng, -0.37, -0.3),
        part_side=1.0 if rng.random() < 0.5 else -1.0,
        beard=choose(rng, beards),
        glasses=choose(rng, ("none", "none", "none", "round", "square")),
        glasses_colour=rgb(choose(rng, ("22252b", "5a3a24", "7c1f2d", "2d4a7a", "b08d3f"))),
        hat=choose(rng, hats) if hair_style not in ("afro", "bun", "spiky", "quiff", "curly") else "none",
        hat_colour=vary(rng, rgb(choose(rng, CLOTHES)), 0.08),
        earrings=bool(feminine and rng.random() < 0.4),
        freckles=bool(skin_name in ("porcelain", "fair", "light") and rng.random() < 0.3),
        blush=uniform(rng, 0.1, 0.35),
        clothes=vary(rng, rgb(choose(rng, CLOTHES)), 0.08),
        collar=choose(rng, ("crew", "v-neck", "shirt", "hoodie", "stripes")),
        collar_colour=vary(rng, rgb(choose(rng, CLOTHES)), 0.08),
    )


def _hair_colour(rng: np.random.Generator, skin_name: str) -> str:
    position = list(SKINS).index(skin_name)
    if position <= 2:
        weights = (0.8, 1.2, 1.2, 0.8, 0.9, 1.0, 1.2, 0.5, 0.4, 0.25, 0.25)
    elif position <= 4:
        weights = (1.5, 1.5, 1.0, 0.5, 0.2, 0.4, 0.4, 0.4, 0.3, 0.2, 0.2)
    else:
        weights = (3.0, 1.5, 0.5, 0.2, 0.1, 0.1, 0.3, 0.4, 0.3, 0.15, 0.15)
    return choose(rng, tuple(HAIRS), weights)


@dataclass(frozen=True)
class FaceSetting:
    """What changes between two clips of the same person.

    Attributes:
        backdrop: the colours at the edge and behind the head.
        light: direction towards the light, unit length [3] (x right, y down, z to the viewer).
        scale, shift_x, shift_y: small errors of the alignment.
    """

    backdrop: tuple[Colour, Colour]
    light: tuple[float, float, float]
    scale: float
    shift_x: float
    shift_y: float


def face_setting(rng: np.random.Generator) -> FaceSetting:
    """Background, light and framing of a clip."""
    edge, centre = choose(rng, BACKDROPS)
    light = np.array([rng.uniform(-0.75, 0.75), rng.uniform(-0.75, -0.3), 0.85])
    light /= np.linalg.norm(light)
    return FaceSetting(
        backdrop=(vary(rng, rgb(edge), 0.05), vary(rng, rgb(centre), 0.03)),
        light=(float(light[0]), float(light[1]), float(light[2])),
        scale=uniform(rng, 0.97, 1.03),
        shift_x=uniform(rng, -0.015, 0.015),
        shift_y=uniform(rng, -0.015, 0.015),
    )
