"""A map of each name, and the pictures that they are tried on."""

from creps_jax.rendering.warp import maps

SIZE = (48, 64)  # px
MAPS = {
    "rotate": maps.rotate(30),
    "shear": maps.shear(0.3),
    "perspective": maps.perspective(25),
    "fisheye": maps.fisheye(0.5),
    "cylinder": maps.cylinder(120),
    "polar": maps.polar(),
}
