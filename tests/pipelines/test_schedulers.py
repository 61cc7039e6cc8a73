import diffusers
import numpy as np
import pytest

import tiny
from skiagraph.errors import ModelError
from skiagraph.pipelines.schedulers import check_scheduler, make_scheduler

CONFIG = diffusers.DDIMScheduler(num_train_timesteps=100).config
NAMES = sorted(n for n in dir(diffusers) if n.endswith("Scheduler"))


@pytest.mark.parametrize("name", NAMES)
def test_every_scheduler_samples_or_is_refused(name):
    try:
        scheduler = make_scheduler(name, CONFIG)
    except ModelError as error:
        assert name in str(error)  # noqa: PT017
        return
    pipeline = tiny.pipeline(scheduler=scheduler)
    assert np.isfinite(pipeline("Effusion.", num_inference_steps=4, seeds=[0]).images).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Magic", "no scheduler 'Magic'"),
        ("SchedulerMixin", "no scheduler 'SchedulerMixin'"),
        ("FlowMatchEulerDiscrete", "for another kind of model, such as flow matching; try DDIM"),
        ("VQDiffusion", "does not fit this model"),
    ],
)
def test_schedulers_of_other_models_are_refused_by_name(name, message):
    with pytest.raises(ModelError, match=message):
        make_scheduler(name, CONFIG)


def test_names_go_with_and_without_their_ending():
    assert type(make_scheduler("DDIM", {})) is diffusers.DDIMScheduler
    assert type(make_scheduler("EulerDiscreteScheduler", {})) is diffusers.EulerDiscreteScheduler


def test_a_pipeline_refuses_a_scheduler_that_was_put_in():
    pipeline = tiny.pipeline()
    pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    with pytest.raises(ModelError, match="FlowMatchEulerDiscreteScheduler is for another kind"):
        pipeline("Effusion.", num_inference_steps=1, seeds=[0])
    check_scheduler(tiny.pipeline().scheduler)
