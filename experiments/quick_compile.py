"""XLA's flags for networks so small that compiling them takes most of the time.

They change no HLO. Read by XLA when its first device is asked for.
"""

import jaxlib.version

FLAGS = " ".join(
    [
        "--xla_backend_optimization_level=0",
        "--xla_cpu_parallel_codegen_split_count=1",
        # Later releases end at this flag.
        *["--xla_cpu_use_fusion_emitters=false"] * (jaxlib.version.__version_info__ < (0, 11)),
    ]
)
