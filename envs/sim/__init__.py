"""The room of physics engines: W worlds of one MuJoCo model, stepped together, seen as live
tensors.

Read in this order: types.py (the protocol, all that an environment sees of an engine), backends.py
(which engine a machine has), cpu.py (MuJoCo's C engine, W worlds in one thread pool), live.py (what
keeps a tensor's name with its memory), process.py (what is set once in the process that it runs
in).

On a GPU: warp.py (MuJoCo Warp, W worlds in float32), warp_kernels.py (what it lacks beside the C
engine), warp_device.py (whether it can run here, and what it says while it compiles), buffers.py
(how many contacts and constraint rows there can be).
"""
