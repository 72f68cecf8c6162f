"""Where a drawn head is in every frame, and the coordinates that its features are drawn in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vidgen.data.synthetic.canvas import Array, Canvas, Region, Value, ellipse, per_frame
from vidgen.data.synthetic.face_identity import FaceIdentity, FaceSetting
from vidgen.data.synthetic.face_motion import FaceMotion

#: Middle of the head at rest, and the point of the neck that the head tilts around.
_CENTRE = (0.0, 0.0)
_PIVOT = (0.0, 0.62)
#: The features lie on an ellipsoid this much larger than the head, so that hair outside the outline has
#: coordinates too.
_ENLARGED = 1.14


@dataclass(frozen=True)
class Patch:
    """A part of the head's region, with coordinates in canvas units.

    Attributes:
        region: the pixels.
        x, y: coordinates that move and tilt with the head but do not turn, [T, h, w].
        u, v: coordinates on the head's surface, equal to x, y for a head seen from the front, [T, h, w].
    """

    region: Region
    x: Array
    y: Array
    u: Array
    v: Array


@dataclass(frozen=True)
class Head:
    """The head's geometry over a clip.

    Attributes:
        whole: the patch that holds head and hair.
        normal: surface normal of the head in the picture, [3, T, h, w] (z to the viewer).
        outline: signed distance to the head's outline, [T, h, w].
        half_width, half_height: of the head, half_height [T, 1, 1] because the chin drops with the jaw.
        yaw, pitch, roll: angles, [T, 1, 1].
        centre_x, centre_y: middle of the head, [T, 1, 1].
    """

    canvas: Canvas
    identity: FaceIdentity
    setting: FaceSetting
    motion: FaceMotion
    whole: Patch
    normal: Array
    outline: Array
    half_width: float
    half_height: Array
    yaw: Array
    pitch: Array
    roll: Array
    centre_x: Array
    centre_y: Array

    def channel(self, name: str) -> Array:
        """A motion channel as [T, 1, 1]."""
        return per_frame(self.motion[name])

    @property
    def lit(self) -> Array:
        """How much the light reaches the surface, [T, h, w], 0 to 1 (half-Lambert: soft terminator)."""
        lx, ly, lz = self.setting.light
        level: Array = self.normal[0] * lx + self.normal[1] * ly + self.normal[2] * lz
        level *= np.float32(0.5)
        level += np.float32(0.5)
        level *= level
        return level

    def to_picture(self, u: Value, v: Value, lift: float = 1.0) -> tuple[Array, Array]:
        """Canvas position of a point of the head's surface, each [T, 1, 1].

        Args:
            lift: distance from the head's middle over the surface's, above 1 for a point in front of it.
        """
        a, b = self.half_width * _ENLARGED, self.identity.half_height * _ENLARGED
        nx, ny = u / a * lift, v / b * lift
        nz = np.sqrt(np.maximum(lift * lift - nx * nx - ny * ny, 0.0))
        down = ny * np.cos(self.pitch) + nz * np.sin(self.pitch)
        front = nz * np.cos(self.pitch) - ny * np.sin(self.pitch)
        side = nx * np.cos(self.yaw) + front * np.sin(self.yaw)
        qx, qy = side * a, down * b
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        scale = self.setting.scale
        x = self.centre_x + scale * (qx * cos - qy * sin)
        y = self.centre_y + scale * (qx * sin + qy * cos)
        return np.asarray(x, np.float32), np.asarray(y, np.float32)

    def patch(self, u: float, v: float, half_width: float, half_height: float) -> Patch:
        """The part of the head around a point of its surface, large enough in every frame."""
        x, y = self.to_picture(u, v)
        # A box that rolls by up to a quarter of a radian reaches further than its own sides.
        reach_x, reach_y = half_width + 0.3 * half_height, half_height + 0.3 * half_width
        return self._cut(self.canvas.region(x - reach_x, x + reach_x, y - reach_y, y + reach_y))[0]

    def rows(self, top: float, bottom: float) -> Head:
        """The same head with only the rows between two heights around its middle."""
        region = self.canvas.region(-np.inf, np.inf, self.centre_y + top, self.centre_y + bottom)
        patch, cut = self._cut(region)
        return replace(self, whole=patch, normal=self.normal[:, *cut], outline=self.outline[cut])

    def _cut(self, region: Region) -> tuple[Patch, tuple[slice, slice, slice]]:
        w, outer = self.whole, self.whole.region
        rows = _overlap(region.rows, outer.rows)
        columns = _overlap(region.columns, outer.columns)
        cut = (
            slice(None),
            slice(rows.start - outer.rows.start, rows.stop - outer.rows.start),
            slice(columns.start - outer.columns.start, columns.stop - outer.columns.start),
        )
        clipped = Region(rows, columns, outer.x[:, :, cut[2]], outer.y[:, cut[1], :])
        return Patch(clipped, w.x[cut], w.y[cut], w.u[cut], w.v[cut]), cut


def _overlap(first: slice, second: slice) -> slice:
    start, stop = max(first.start, second.start), min(first.stop, second.stop)
    return slice(min(start, second.stop), max(min(start, second.stop), stop))


def head_frame(canvas: Canvas, identity: FaceIdentity, setting: FaceSetting, motion: FaceMotion) -> Head:
    """Place the head in every frame."""
    yaw, pitch, roll = (per_frame(motion[name]) for name in ("yaw", "pitch", "roll"))
    cos, sin = np.cos(roll), np.sin(roll)
    dx, dy = _CENTRE[0] - _PIVOT[0], _CENTRE[1] - _PIVOT[1]
    centre_x = _PIVOT[0] + dx * cos - dy * sin + per_frame(motion["dx"]) + setting.shift_x
    centre_y = _PIVOT[1] + dx * sin + dy * cos + per_frame(motion["dy"]) + setting.shift_y
    wide = 0.9 if identity.hair_style in ("afro", "long", "long wavy", "ponytail") else 0.8
    # The sides and the edge of the picture have room for hanging hair: a box that cut it would depend on other frames.
    region = canvas.region(centre_x - wide, centre_x + wide, centre_y - 0.92, np.inf)
    px = (region.x - centre_x) * (1.0 / setting.scale)
    py = (region.y - centre_y) * (1.0 / setting.scale)
    x = px * cos + py * sin
    y = py * cos - px * sin
    u, v = _surface(x, y, yaw, pitch, identity)
    half_height = identity.half_height * (1.0 + 0.07 * per_frame(motion["mouth_open"]))
    chin_x = x - 0.16 * np.sin(yaw) * np.clip(y / identity.half_height, 0.0, 1.0)
    jaw_y = y - 0.15 * np.sin(pitch)
    outline, normal = _outline(chin_x, jaw_y, identity, np.asarray(half_height, np.float32))
    return Head(
        canvas, identity, setting, motion, Patch(region, x, y, u, v), normal, outline, identity.half_width,
        np.asarray(half_height, np.float32), yaw, pitch, roll,
        np.asarray(centre_x, np.float32), np.asarray(centre_y, np.float32),
    )  # fmt: skip


def _surface(x: Array, y: Array, yaw: Array, pitch: Array, identity: FaceIdentity) -> tuple[Array, Array]:
    # Turn each visible point of the ellipsoid back to the front view.
    a, b = identity.half_width * _ENLARGED, identity.half_height * _ENLARGED
    nx, ny = x * (1.0 / a), y * (1.0 / b)
    nz = np.sqrt(np.maximum(1.0 - nx * nx - ny * ny, 0.0))
    side = nx * np.cos(yaw) - nz * np.sin(yaw)
    front = nx * np.sin(yaw) + nz * np.cos(yaw)
    down = ny * np.cos(pitch) - front * np.sin(pitch)
    return side * a, down * b


def _outline(x: Array, y: Array, identity: FaceIdentity, half_height: Array) -> tuple[Array, Array]:
    low = np.clip(y / half_height, 0.0, 1.0)
    low2 = low * low
    width = 1.0 - identity.taper * low2 + 4.0 * identity.squareness * low2 * (1.0 - low)
    height = np.where(y > 0, half_height, np.float32(identity.half_height * 0.96))
    inner_x = x / width
    distance = ellipse(inner_x, y, identity.half_width, height)
    nx, ny = inner_x / identity.half_width, y / height
    nz = np.sqrt(np.maximum(1.0 - nx * nx - ny * ny, 0.0))
    return distance, np.stack([nx, ny, nz]).astype(np.float32)
