"""Stable-Baselines3's algorithms as functions: parameters and whole episodes in, parameters out.

Episodes are played by metarl/rl/data, as those of all learners are; from there on the networks,
the buffers, the losses and the optimizers are Stable-Baselines3's own. `expert` says what an
algorithm is to us. Read `ppo` first, then `sac`, which learns from a replay. `agents` makes their
networks with Stable-Baselines3's constructors, and acts by them. `library` imports it, and lends
its random numbers, which are global, a seed.
"""
