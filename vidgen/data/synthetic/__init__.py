"""Built-in video data drawn from a seed: faces with expressions, figures performing actions, captured people."""

from __future__ import annotations

from vidgen.data.synthetic.make import synthesize
from vidgen.data.synthetic.render import SyntheticClip, labels, render_clip
from vidgen.data.synthetic.settings import DRAWN_KINDS, KINDS, SyntheticSettings

__all__ = ["DRAWN_KINDS", "KINDS", "SyntheticClip", "SyntheticSettings", "labels", "render_clip", "synthesize"]
