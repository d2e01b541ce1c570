"""The room of physics engines: W worlds of one MuJoCo model, stepped together, seen as live
tensors.

Read in this order: types.py (the protocol, all that an environment sees of an engine), cpu.py
(MuJoCo's C engine, W worlds in one thread pool), live.py (what keeps a tensor's name with its
memory), process.py (what is set once in the process that it runs in).
"""
