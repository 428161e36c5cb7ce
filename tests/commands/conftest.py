"""Runs that the commands of these tests paint from."""

import pytest

from tests.helpers.saved import save_run


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def grey_workdir(tmp_path_factory):
    """Of a model with three classes and one channel."""
    return save_run(tmp_path_factory.mktemp("grey"), num_classes=3, image_channels=1)
