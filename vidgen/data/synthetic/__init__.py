"""Built-in video data drawn from a seed: faces with expressions, and figures performing actions."""

from __future__ import annotations

from vidgen.data.synthetic.make import synthesize
from vidgen.data.synthetic.render import SyntheticClip, labels, render_clip
from vidgen.data.synthetic.settings import KINDS, SyntheticSettings

__all__ = ["KINDS", "SyntheticClip", "SyntheticSettings", "labels", "render_clip", "synthesize"]
