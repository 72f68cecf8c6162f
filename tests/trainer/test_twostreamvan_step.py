"""Losses, gradients, schedules and update rule of TwoStreamVAN's training are the reference's."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import vectors
from support.fill import fill_module, make_input

from vidgen.models.classifier import Judgement
from vidgen.models.config import TwoStreamVANConfig
from vidgen.models.twostreamvan import Reconstruction
from vidgen.trainer.distributed import World
from vidgen.trainer.recipe import frozen
from vidgen.trainer.schedules import Line
from vidgen.trainer.twostreamvan import CONTENT, EASY, HARD, Draws, Game, Networks, gradients
from vidgen.trainer.twostreamvan_losses import (
    ClipVerdicts,
    LossWeights,
    Verdicts,
    content_losses,
    prediction_losses,
    pretraining_losses,
    scale_feature_loss,
    video_losses,
    who_learns,
)
from vidgen.trainer.twostreamvan_settings import TwoStreamVANTrainSettings

RULES = json.loads((vectors.TESTS / "data" / "vectors" / "tsv_rules.json").read_text())


def _networks() -> Networks:
    networks = Networks.create(TwoStreamVANConfig())
    for network in networks.named().values():
        fill_module(network)
    return networks


def test_losses_of_supplied_tensors_match_the_reference() -> None:
    case = "tsv_losses_supplied"
    stored = vectors.load(case)
    shapes = {0: (4, 16, 8, 8), 1: (4, 128, 16, 16), 2: (4, 32, 32, 32)}

    def image(name: str, frames: int = 0) -> torch.Tensor:
        shape = (4, 3, frames, 64, 64) if frames else (4, 3, 64, 64)
        return torch.from_numpy(make_input(f"{case}/{name}", shape, "image"))

    def features(name: str) -> list[torch.Tensor]:
        return [torch.from_numpy(make_input(f"{case}/{name}_{i}", shapes[i], "normal")) for i in range(3)]

    def made(prefix: str, latent: str, frames: int = 0, with_features: bool = True) -> Reconstruction:
        mean, logvar = (torch.from_numpy(stored[f"in_{latent}_{key}"]) for key in ("mean", "logvar"))
        found = features(f"{prefix}_feat") if with_features else []
        return Reconstruction(image(f"{prefix}_x_tilde", frames), mean, logvar, found)

    networks = _networks()
    category = torch.from_numpy(stored["in_cat"]).long()

    def frames_judged(prefix: str, target: str) -> Verdicts:
        judge = networks.image_discriminator
        posterior, prior = image(f"{prefix}_x_tilde"), image(f"{prefix}_x_p")
        return Verdicts(judge(posterior), judge(prior), judge(posterior), judge(prior), judge(image(target)))

    judge = networks.video_discriminator
    clips = [image(name, 10) for name in ("video_x_tilde", "video_x_p", "video_x_tilde", "video_x_p", "video")]
    content = made("recons", "cont", with_features=False)
    with torch.no_grad():
        found = {
            "recons_pretrain": pretraining_losses(content, image("recons_img"), LossWeights(7)),
            "recons": content_losses(
                content,
                image("recons_img"),
                frames_judged("recons", "recons_img"),
                LossWeights(7, 10, prior_share=0.1),
            ),
            "pred": prediction_losses(
                made("pred", "motion"),
                image("pred_target"),
                features("pred_feat_gt"),
                frames_judged("pred", "pred_target"),
                LossWeights(7, scale_features=100),
            ),
            "video": video_losses(
                made("video", "video", 10),
                image("video", 10),
                features("video_feat_gt"),
                category,
                ClipVerdicts(*(judge(clip) for clip in clips)),
                LossWeights(11, scale_features=100),
            ),
        }
    values = {f"{task}/{name}": float(part) for task, losses in found.items() for name, part in losses.parts.items()}
    expected = dict(zip(stored["out_loss_names"].tolist(), stored["out_loss_values"].tolist()))
    assert set(values) == set(expected)
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, rel=1e-4), name


def _draws(stored: dict[str, np.ndarray]) -> Draws:
    names = ("eps_cont", "z_cont", "eps_motion", "z_motion_pred", "eps_motion_video", "z_motion_video")
    noise = [torch.from_numpy(stored[f"in_{name}"]) for name in names]
    return Draws((0.0, 0.0), 4, 3, *noise, torch.from_numpy(stored["in_uniforms"]).reshape(2, -1))


def test_losses_and_gradients_of_every_task_match_the_reference() -> None:
    case = "tsv_train_step_b4"
    stored = vectors.load(case)
    networks = _networks()
    clip = torch.from_numpy(make_input(f"{case}/images", (4, 3, 10, 64, 64), "image"))
    game = Game(networks, clip, torch.from_numpy(stored["in_cat"]).long(), _draws(stored))
    parameters = networks.parameters()
    settings = TwoStreamVANTrainSettings(xp_vs_xtilde=0.1)
    at = {name: line.at(200000) for name, line in settings.schedules.items()}
    values, norms, totals, flags = {}, {}, {}, []
    for task in (CONTENT, EASY, HARD):
        with frozen(*(() if task is CONTENT else networks.content_modules)):
            if task is CONTENT:
                losses = game.content(LossWeights(at["c_kl"], 10, prior_share=0.1))
            elif task is EASY:
                losses = game.easy(LossWeights(7, scale_features=100))
            else:
                losses = game.hard(LossWeights(at["m_kl"], scale_features=100), at["epsilon"])
            values |= {f"{task.name}/{name}": part.item() for name, part in losses.parts.items()}
            flags += who_learns(losses.real.item(), losses.fake.item(), task.margin)
            for role in ("encoder", "decoder", "discriminator"):
                name = getattr(task, role)
                found = gradients(getattr(losses, role), parameters[name], retain=role != "discriminator")
                sizes = [0.0 if g is None else float(g.double().norm()) for g in found]
                norms |= {f"{task.name}/{name}/{i:03d}": size for i, size in enumerate(sizes)}
                totals[f"{task.name}/{name}"] = float(np.linalg.norm(sizes))
    expected = dict(zip(stored["out_loss_names"].tolist(), stored["out_loss_values"].tolist()))
    assert set(values) == set(expected)
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, rel=1e-3), name
    for name, total in zip(stored["out_grad_total_names"].tolist(), stored["out_grad_total"].tolist()):
        assert totals[name] == pytest.approx(total, rel=1e-2), name
    expected = dict(zip(stored["out_grad_names"].tolist(), stored["out_grad_norms"].tolist()))
    assert set(norms) >= set(expected)
    largest = {group: max(v for n, v in expected.items() if n.startswith(group + "/")) for group in totals}
    for name, norm in expected.items():
        if norm > 1e-3 * largest[name.rsplit("/", 1)[0]]:
            assert norms[name] == pytest.approx(norm, rel=5e-2), name
    assert [int(flag) for flag in flags] == stored["out_update_flags"].tolist()


def test_schedules_match_the_reference() -> None:
    for table in RULES["schedules"]:
        settings = TwoStreamVANTrainSettings(
            total_iters=1, pretrain_iters=table["pretrain"], c_kl_start=0, c_kl_end=7,
            cont_ratio_start=0.3, cont_ratio_end=0.6, cont_ratio_iter_start=180000, cont_ratio_iter_end=200000,
        )  # fmt: skip
        for row in table["values"]:
            for name, line in settings.schedules.items():
                assert line.at(row["iter"]) == pytest.approx(row[name], abs=1e-9), (table["pretrain"], name, row)


def test_who_learns_matches_the_reference() -> None:
    for row in RULES["update_rule"]:
        assert who_learns(row["real"], row["fake"], row["margin"]) == (row["decoder"], row["discriminator"])


@given(st.floats(-5, 5), st.floats(-5, 5), st.integers(0, 100), st.integers(0, 100), st.integers(-10, 300))
def test_a_line_stays_between_its_ends(start: float, end: float, begin: int, length: int, iteration: int) -> None:
    value = Line(start, end, begin, begin + length).at(iteration)
    assert min(start, end) - 1e-9 <= value <= max(start, end) + 1e-9


def test_draws_depend_on_seed_and_step_alone_and_are_shared_out() -> None:
    settings = TwoStreamVANTrainSettings(batch_size=4, cont_dim=3, motion_dim=2)
    device = torch.device("cpu")
    one, again = (Draws.of_step(settings, 7, World(), device) for _ in range(2))
    other = Draws.of_step(replace(settings, random_seed=1), 7, World(), device)
    parts = [Draws.of_step(settings, 7, World(rank, 2), device) for rank in range(2)]
    assert torch.equal(one.clip_noise, again.clip_noise) and one.choices == again.choices
    assert not torch.equal(one.clip_noise, other.clip_noise)
    whole = torch.stack([part.clip_prior.unflatten(0, (2, -1)) for part in parts], 1).flatten(0, 2)
    assert torch.equal(whole, one.clip_prior)
    assert all(torch.equal(part.uniforms, one.uniforms) for part in parts)


@pytest.mark.parametrize("last", [False, True])
def test_the_last_frame_is_a_target_only_if_asked_for(last: bool) -> None:
    settings = TwoStreamVANTrainSettings(batch_size=1, cont_dim=1, motion_dim=1, last_frame=last)
    draws = [Draws.of_step(settings, step, World(), torch.device("cpu")) for step in range(300)]
    assert {draw.frame for draw in draws} == set(range(10 if last else 9))
    assert {draw.time for draw in draws} == set(range(1, 10 if last else 9))


def test_a_judgement_keeps_realness_and_classes_apart() -> None:
    judgement = Judgement(torch.zeros(2), torch.ones(2, 3))
    verdicts = ClipVerdicts(*(judgement,) * 5).realness
    assert all(torch.equal(logits, torch.zeros(2)) for logits in vars(verdicts).values())


def test_a_loss_without_features_lies_where_the_images_are() -> None:
    image = torch.zeros(2, 3, 64, 64, device="meta")
    assert scale_feature_loss(Reconstruction(image, None, None, []), []).device == image.device
