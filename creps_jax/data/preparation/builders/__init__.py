"""TFDS builders of the paper's four data sets; importing them makes their names known to TFDS."""

from creps_jax.data.preparation.builders.ffhq import Ffhq
from creps_jax.data.preparation.builders.flickr_scenery import FlickrScenery
from creps_jax.data.preparation.builders.lsun_church import LsunChurch
from creps_jax.data.preparation.builders.manual import ManualImages
from creps_jax.data.preparation.builders.metfaces import Metfaces

BUILDERS = (Ffhq, FlickrScenery, LsunChurch, Metfaces)

__all__ = ["BUILDERS", "Ffhq", "FlickrScenery", "LsunChurch", "ManualImages", "Metfaces"]
