"""Renders posed bodies with pybullet's CPU renderer, and the shadow they throw on the floor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vidgen._imports import require
from vidgen.data.synthetic.mocap_figure import Part, Placed
from vidgen.data.synthetic.mocap_motion import Array
from vidgen.errors import DataError

#: What the package is needed for, in the error that says it is missing.
PURPOSE = "render motion captures"

#: Rendered pixels a side for each pixel of the picture.
_FINER = 2
_DISTANCE = 4.5
#: Metres from the middle of the picture to its upper edge, at the actor.
_REACH = 1.13
#: Where the floor below the actor is, from the middle (0) to the lower edge (1).
_FLOOR = 0.87
#: Light: from the left of the camera, above and behind it, in the camera's right, the room's up, the way it looks.
_LIGHT = (-0.5, 1.0, -0.75)
_AMBIENT, _DIFFUSE = 0.62, 0.48
_SHADOW = 0.42


@dataclass(frozen=True)
class Camera:
    """A camera that looks at the actor from the front (yaw 0) or from the actor's right (pi / 2).

    Attributes:
        yaw, pitch: radians; a positive pitch looks down.
        zoom: above 1 is closer.
    """

    yaw: float
    pitch: float
    zoom: float

    @property
    def half(self) -> float:
        """Half the height of the picture over the distance."""
        return _REACH / (self.zoom * _DISTANCE)

    @property
    def axes(self) -> Array:
        """Right, up and the way it looks, [3, 3]."""
        away = np.array([np.cos(self.yaw), 0.0, np.sin(self.yaw)])
        look = -np.cos(self.pitch) * away - np.array([0.0, np.sin(self.pitch), 0.0])
        right = np.cross(look, [0.0, 1.0, 0.0])
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(right, look), look])

    @property
    def place(self) -> Array:
        """Where it is, [3], in metres."""
        target = np.array([0.0, _FLOOR * _REACH / self.zoom, 0.0])
        return np.asarray(target - _DISTANCE * self.axes[2])

    @property
    def light(self) -> Array:
        """The direction towards the light, [3]."""
        right, _, look = self.axes
        forward = np.array([look[0], 0.0, look[2]]) / np.hypot(look[0], look[2])
        light = _LIGHT[0] * right + _LIGHT[1] * np.array([0.0, 1.0, 0.0]) + _LIGHT[2] * forward
        return np.asarray(light / np.linalg.norm(light))


class Stage:
    """A pybullet world of its own that holds the parts of one body."""

    def __init__(self, bullet: Any, client: int, parts: Sequence[Part]) -> None:
        self._bullet, self._client, self._parts = bullet, client, parts
        self._bodies = [self._body(part) for part in parts]

    def _body(self, part: Part) -> int:
        shape = self._bullet.createVisualShape(
            self._bullet.GEOM_MESH,
            vertices=part.solid.vertices.tolist(),
            normals=part.solid.normals.tolist(),
            indices=part.solid.triangles.ravel().tolist(),
            rgbaColor=[*part.colour.tolist(), 1.0],
            physicsClientId=self._client,
        )
        body: int = self._bullet.createMultiBody(baseVisualShapeIndex=shape, physicsClientId=self._client)
        if shape < 0 or body < 0:
            raise DataError(
                "cannot build the figure of a motion capture",
                seen=f"pybullet answered shape {shape}, body {body}",
                cause="another version of pybullet",
                fix="pip install --force-reinstall 'vidgen[mocap]'",
            )
        return body

    def render(self, placed: Placed, camera: Camera, size: int) -> Iterator[tuple[Array, Array]]:
        """Each moment as colours times coverage, float64 [size, size, 3] from 0 to 1, and coverage [size, size, 1]."""
        right, up, look = camera.axes
        place, fine = camera.place, size * _FINER
        # Column by column, as OpenGL has it.
        view = np.eye(4)
        view[:3, :3] = np.stack([right, up, -look])
        view[:3, 3] = -view[:3, :3] @ place
        near, far = 0.5, 4.0 * _DISTANCE
        edge = camera.half * near
        # The renderer samples at corners of pixels, half a pixel to the left of and below their middles.
        low, high = edge / fine - edge, edge / fine + edge
        projection = self._bullet.computeProjectionMatrix(low, high, low, high, near, far)
        for points, turns in zip(placed.points, placed.turns):
            for body, part in zip(self._bodies, self._parts):
                w, x, y, z = turns[part.joint].tolist()
                self._bullet.resetBasePositionAndOrientation(
                    body, points[part.joint].tolist(), (x, y, z, w), physicsClientId=self._client
                )
            _, _, colours, _, bodies = self._bullet.getCameraImage(
                fine,
                fine,
                view.T.ravel().tolist(),
                projection,
                lightDirection=camera.light.tolist(),
                lightAmbientCoeff=_AMBIENT,
                lightDiffuseCoeff=_DIFFUSE,
                lightSpecularCoeff=0.0,
                shadow=0,
                renderer=self._bullet.ER_TINY_RENDERER,
                physicsClientId=self._client,
            )
            mask = np.asarray(bodies).reshape(fine, fine, 1) >= 0
            levels = np.asarray(colours, np.uint8).reshape(fine, fine, 4)[..., :3] * mask
            yield _reduced(levels) / 255.0, _reduced(mask)


def _reduced(image: npt.NDArray[Any]) -> Array:
    """The means of blocks of pixels."""
    size = image.shape[0] // _FINER
    blocks = image.reshape(size, _FINER, size, _FINER, -1)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float64))


@contextmanager
def stage(parts: Sequence[Part]) -> Iterator[Stage]:
    """A stage without a window, closed at the end.

    Raises:
        MissingDependencyError: pybullet is not installed.
        DataError: it cannot be used.
    """
    bullet = require("pybullet", PURPOSE)
    client = bullet.connect(bullet.DIRECT)
    if client < 0:
        raise DataError(
            "cannot start pybullet's renderer",
            seen=f"connect answered {client}",
            cause="too many of its worlds are open in this process",
            fix="run the command again with --workers 1",
        )
    try:
        yield Stage(bullet, client, parts)
    finally:
        bullet.disconnect(client)


class Shadow:
    """The soft shadow of a body on the floor, seen by a camera."""

    def __init__(self, camera: Camera, size: int) -> None:
        right, up, look = camera.axes
        across = (np.arange(size) + 0.5) * (2.0 / size) - 1.0
        rays = look + camera.half * (across[None, :, None] * right - across[:, None, None] * up)
        down = np.minimum(rays[..., 1], -1e-3)
        floor = camera.place + rays * (-camera.place[1] / down)[..., None]
        self._rows = slice(int(np.argmax(rays[:, 0, 1] < -1e-3)), size)
        self._floor = floor[self._rows][..., [0, 2]]
        self._slope = camera.light[[0, 2]] / camera.light[1]

    def darken(self, picture: Array, parts: Sequence[Part], ends: Sequence[Array]) -> None:
        """Multiply a picture, [size, size, 3], by the shadow of a body.

        Args:
            ends: of each part, [2, 3], in metres.
        """
        light = np.ones(self._floor.shape[:2])
        for part, (first, last) in zip(parts, ends):
            if part.radius <= 0.0:
                continue
            start, end = (point[[0, 2]] - self._slope * point[1] for point in (first, last))
            along, offset = end - start, self._floor - start
            share = (offset @ along / max(float(along @ along), 1e-9)).clip(0.0, 1.0)
            distance = np.sqrt(((offset - share[..., None] * along) ** 2).sum(axis=-1))
            # The higher, the softer and fainter.
            height = first[1] + share * (last[1] - first[1])
            soft = 0.02 + 0.12 * height
            depth = ((part.radius + 0.5 * soft - distance) / soft).clip(0.0, 1.0)
            light *= 1.0 - _SHADOW * depth / (1.0 + 1.1 * height)
        picture[self._rows] *= np.maximum(light, 1.0 - 1.3 * _SHADOW)[..., None]
