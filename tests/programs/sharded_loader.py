"""One of two processes, with two devices each, that read one data set: `sharded_loader.py PORT PROCESS`."""

import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import numpy as np

import fluxion as fx

port, process = sys.argv[1], int(sys.argv[2])
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=process)
mesh = jax.make_mesh((4,), ("data",))
sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
data = np.arange(40, dtype=np.float32).reshape(20, 2), np.arange(20)
loader = fx.DataLoader(data, batch_size=8, shuffle=True, seed=1, partial="pad", device=sharding, shard=(process, 2))
whole = fx.DataLoader(data, batch_size=8, shuffle=True, seed=1, partial="pad", device="host")
for (x, y, valid), (x_whole, y_whole, valid_whole) in zip(loader, whole, strict=True):
    assert x.shape == (8, 2) and y.shape == (8,) and x.sharding == sharding
    assert len(x.addressable_shards) == 2
    for array, expected in ((x, x_whole), (y, y_whole), (valid, valid_whole)):
        for shard in array.addressable_shards:
            np.testing.assert_array_equal(shard.data, expected[shard.index])
print("done", process)
