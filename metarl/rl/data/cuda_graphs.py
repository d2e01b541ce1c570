"""Work on a GPU that is recorded once and replayed: a CUDA graph launches all its kernels at once,
where Python would launch them one by one, each in some microseconds.

What is replayed is kernels and addresses. Python isn't asked again, so whatever changes must lie in
memory that stays.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch


class CudaGraphs:
    """Records work in a stream of its own.

    Args: generators: of the random numbers that the work draws. Each replay goes on with them where
    they are, as the work itself would.
    """

    def __init__(self, device: torch.device, generators: Sequence[torch.Generator]) -> None:
        self._device = device
        self._generators = generators
        self._stream = torch.cuda.Stream(device)

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        """Inside, work runs in the stream that will record it, which is how libraries come to have
        there what they can't make while they are recorded."""
        usual = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            yield
        usual.wait_stream(self._stream)

    def recorded(self, work: Callable[[], None], *, draws: bool) -> Callable[[], None]:
        """Records `work`, without running it. Returns what replays it.

        Args: draws: whether the work draws random numbers. Each generator that it may draw from
          costs some launches in every replay.
        Raises: RuntimeError, if it does what can't be recorded (waits for the device, copies from
        the CPU's memory) or memory is short. Work goes on then as if nothing had been tried.
        """
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        own = self._generators if draws else ()
        for generator in own:
            graph.register_generator_state(generator)
        # A recording also takes hold of torch's own generator.
        known = [*own, torch.cuda.default_generators[self._device.index or 0]]
        before = [generator.get_state() for generator in known]
        collects = gc.isenabled()
        gc.disable()  # Else a graph that nobody holds any more may be destroyed in the midst of it.
        try:
            # The outer one brings the usual stream back where the inner one fails at its end.
            with (
                torch.cuda.stream(self._stream),
                torch.cuda.graph(
                    graph, pool, stream=self._stream, capture_error_mode="thread_local"
                ),
            ):
                work()
        except RuntimeError:
            # Before torch 2.13 memory would go on being taken for the graph, from there to the end
            # of the process; later ones have ended that, and say so.
            with suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(self._device.index or 0, pool)
            # What broke off without an end has left them waiting for it, and unable to draw.
            for generator, state in zip(known, before, strict=True):
                fresh = torch.Generator(self._device)
                fresh.set_state(state)
                generator.graphsafe_set_state(fresh)
            raise
        finally:
            if collects:
                gc.enable()
        return graph.replay
