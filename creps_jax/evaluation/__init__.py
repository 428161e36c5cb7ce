"""How good the images of a network are."""
