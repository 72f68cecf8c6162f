"""The cast of the action clips: builds, colours, clothes and the place where each actor performs."""

from __future__ import annotations

from dataclasses import dataclass

from vidgen.data.synthetic.skeleton import Build


@dataclass(frozen=True)
class Actor:
    """One actor; colours as hexadecimal codes.

    Attributes:
        sleeves: share of the arm that the top covers: 0 none, 0.3 short, 1 long.
        legs: ``trousers``, ``shorts`` or ``skirt``.
        hair_style: ``short``, ``long``, ``bun``, ``ponytail``, ``bald``, ``afro`` or ``cap``.
        scene: name of the background.
    """

    name: str
    build: Build
    skin: str
    hair: str
    hair_style: str
    top: str
    sleeves: float
    bottom: str
    legs: str
    shoes: str
    scene: str


ACTORS: tuple[Actor, ...] = (
    Actor("ada", Build(1.40, 0.108, 0.070, 0.88, 0.048, 0.099, 0.475), "f0c6a4", "7a2f17", "ponytail",
          "e4574c", 0.3, "2f4468", "trousers", "f4f1ea", "studio"),
    Actor("ben", Build(1.52, 0.142, 0.080, 1.22, 0.068, 0.090, 0.465), "8d5a3a", "211a19", "short",
          "f2c14b", 0.3, "3a3f47", "shorts", "d8433b", "park"),
    Actor("cleo", Build(1.34, 0.104, 0.078, 0.95, 0.055, 0.103, 0.46), "6d432b", "1f1718", "afro",
          "58b7a5", 0.0, "7a4a9c", "skirt", "f0e6d2", "beach"),
    Actor("dan", Build(1.56, 0.116, 0.066, 0.82, 0.046, 0.087, 0.49), "f2ceb0", "c58a3f", "short",
          "3f78b5", 1.0, "b99b6b", "trousers", "5a3a26", "brick"),
    Actor("eve", Build(1.42, 0.106, 0.074, 0.90, 0.050, 0.096, 0.48), "d8a47c", "2a1d18", "long",
          "f5f2ea", 0.3, "c8475f", "skirt", "c8475f", "gym"),
    Actor("finn", Build(1.36, 0.136, 0.094, 1.38, 0.098, 0.101, 0.435), "eab792", "6b4a2e", "bald",
          "5c9a57", 0.3, "39424e", "shorts", "e9e4da", "street"),
    Actor("gina", Build(1.30, 0.112, 0.086, 1.15, 0.076, 0.108, 0.45), "c48b5f", "a8a6a6", "bun",
          "8d5aa5", 1.0, "4b4f58", "trousers", "2b2b30", "room"),
    Actor("hugo", Build(1.50, 0.150, 0.076, 1.30, 0.070, 0.087, 0.47), "56361f", "e6e2dc", "cap",
          "e98a3a", 0.0, "2a6f78", "shorts", "f3efe6", "court"),
    Actor("iris", Build(1.46, 0.100, 0.066, 0.80, 0.044, 0.094, 0.492), "f6dac6", "e0bb62", "long",
          "2f3a52", 1.0, "d9d2c2", "trousers", "8a2f3a", "sunset"),
    Actor("joel", Build(1.44, 0.126, 0.076, 1.05, 0.060, 0.094, 0.465), "b07a50", "33231b", "short",
          "d9484f", 1.0, "e8e4da", "trousers", "2c3e66", "snow"),
)  # fmt: skip
