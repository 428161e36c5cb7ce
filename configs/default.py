"""Every field of a run, with the paper's values for 256 x 256. Other configs change some of them.

Durations are in kimg: thousands of real images shown to the discriminator. What a field may be is
declared in creps_jax/config.py, where a new one begins; this file shows the same.
"""

import ml_collections
from ml_collections.config_dict import placeholder


def get_config() -> ml_collections.ConfigDict:
    """The default config."""
    config = ml_collections.ConfigDict()
    config.seed = 0  # of every random draw of the run
    config.init_from = placeholder(str)  # fine-tuning: a run's workdir, or a file of weights
    config.precision = "auto"  # of products: float32, bfloat16; auto: bfloat16 on GPUs and TPUs
    config.deterministic = False  # GPUs: ask XLA for operations that are; slower
    config.total_kimg = 25000.0  # length of the run, kimg: thousands of real images shown
    config.batch_size = 32  # images per step, over all devices
    config.resolution = 256  # height of the training images, px: h * 2^k, h from 4 to 16
    config.width = placeholder(int)  # px: w * 2^k, w from 4 to 16; None: as the height
    config.image_channels = 3  # 3: RGB, 1: grey
    config.num_classes = 0  # classes of a conditional model; 0: unconditional

    config.data = data = ml_collections.ConfigDict()
    data.source = "folder:datasets/images"  # or zip:, tar:, lmdb:PATH, tfds:NAME, procedural:COUNT
    data.mirror = False  # flip each image left-right with probability 1/2
    data.resize = False  # scale and crop images of other sizes; False: they are an error
    data.random_crop = False  # crop a random window of larger images; False: the middle
    data.max_unreadable = 0.01  # largest share of unreadable files that is skipped
    data.max_megapixels = 128.0  # images of more pixels are unreadable; 12 bytes a pixel and thread
    data.threads = 4  # decoding threads
    data.workers = 0  # decoding processes; 0: threads only, better on few cores

    config.generator = generator = ml_collections.ConfigDict()
    generator.z_dim = 512  # size of the latent z
    generator.w_dim = 512  # size of the latent w
    generator.mapping_layers = 8  # layers from z to w
    generator.biline_channels = 32  # channels of a line's features and of a pixel's
    generator.thickness = 8  # products summed in a composition
    generator.bandwidth = 10.0  # standard deviation of Fourier frequencies, cycles per image
    generator.channel_base = 65536  # block b has channel_base / b channels
    generator.channel_max = 1024  # largest number of channels of a block

    config.discriminator = discriminator = ml_collections.ConfigDict()
    discriminator.mbstd_group_size = 4  # images per group of the minibatch standard deviation
    discriminator.mapping_layers = 8  # layers of the class mapping; conditional models only
    discriminator.channel_base = 32768  # block b has channel_base / b channels
    discriminator.channel_max = 512  # largest number of channels of a block

    config.recipe = recipe = ml_collections.ConfigDict()
    recipe.learning_rate = 0.002  # of Adam, for both networks
    recipe.adam_b2 = 0.99  # decay of Adam's second moment
    recipe.r1_gamma = 2.0  # weight of R1; about x4 at twice the resolution
    recipe.r1_interval = 16  # steps from one R1 phase to the next
    recipe.path_length_weight = 2.0  # weight of the path-length penalty; 0: none
    recipe.path_length_decay = 0.01  # step of the running mean of path lengths
    recipe.path_length_interval = 4  # steps from one path-length phase to the next
    recipe.path_length_batch_shrink = 2  # path lengths are of batch_size / this images
    recipe.w_avg_decay = 0.998  # decay of the running mean of w
    recipe.ema_kimg = placeholder(float)  # half-life of G's EMA; None: batch * 10/32
    # largest half-life, of the images seen; None: 0.05; fine-tuning: no limit
    recipe.ema_rampup = placeholder(float)
    # keep two power-function averages of G, of which those of any length are made
    recipe.power_averages = False
    recipe.freeze_d = 0  # D's first layers that do not learn: 1, then 3 a block

    config.augment = augment = ml_collections.ConfigDict()
    augment.kind = "ada"  # ada: p follows the discriminator; fixed: p stays; none
    augment.p = 0.0  # probability of each operation, at the beginning
    augment.target = 0.6  # ada: mean sign of D's logits of reals that p is steered to
    augment.interval = 4  # ada: steps from one adjustment of p to the next
    # ada: kimg in which p rises by 1; None: 500, fine-tuning: 100
    augment.kimg = placeholder(float)

    config.layout = layout = ml_collections.ConfigDict()
    layout.row = 1  # devices that share an image's rows; the others share the batch
    layout.column = 1  # devices that share an image's columns
    layout.microbatches = 1  # parts of the batch, one after the other: less memory
    # strips that G paints one after the other: less memory; None: what suits the device
    layout.pixel_strips = placeholder(int)

    config.report = report = ml_collections.ConfigDict()
    report.every_kimg = 4.0  # kimg from one line of metrics to the next
    report.grid_every_kimg = 200.0  # kimg from one grid of fakes to the next
    report.tensorboard = True  # write its events; False: TensorFlow, 520 MiB, is not imported

    config.evaluate = evaluate = ml_collections.ConfigDict()
    evaluate.metrics = ""  # as fd_lite,kd_lite (docs/evaluation.md); the first tells the best
    evaluate.every_kimg = 200.0  # kimg from one evaluation to the next
    evaluate.images = 10000  # fakes; reals are all that there are, 50,000 at most

    config.checkpoint = checkpoint = ml_collections.ConfigDict()
    checkpoint.every_kimg = 40.0  # kimg from one checkpoint to the next
    checkpoint.keep = 3  # newest ones kept; if one is damaged the one before is used

    config.guard = guard = ml_collections.ConfigDict()
    guard.patience_kimg = 200.0  # kimg of trouble until it stops; after a tenth it warns
    return config
