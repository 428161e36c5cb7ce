"""TFDS builders of the paper's four data sets; importing them makes their names known to TFDS."""

from creps_jax.data.builders.ffhq import Ffhq
from creps_jax.data.builders.flickr_scenery import FlickrScenery
from creps_jax.data.builders.lsun_church import LsunChurch
from creps_jax.data.builders.manual import ManualImages
from creps_jax.data.builders.metfaces import Metfaces

BUILDERS = (Ffhq, FlickrScenery, LsunChurch, Metfaces)

__all__ = ["BUILDERS", "Ffhq", "FlickrScenery", "LsunChurch", "ManualImages", "Metfaces"]
