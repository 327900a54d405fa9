"""Frames a second of `sil crop`, end to end, beside a plain loop, and the share of each stage.

    python tests/benchmarks/bench_crop.py                                  # a drawn video, a network made for it
    python tests/benchmarks/bench_crop.py --video lobby.mp4 --detector person-detection-retail-0013.xml --model runs/001

The plain loop is what one writes first: decode a frame, detect in it, embed each person in it, take the next frame, by
the same libraries and networks as `sil crop`. It follows nobody and writes nothing. Both run in a process of their own
with the same number of threads, and both look at every frame, so that the ratio is that of batches and of decoding
meanwhile; `--every` comes on top, and is shown in a line of its own. Processor seconds are shown beside the clock's,
since other programs on the machine change those less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

STAGES = ("decode", "waiting", "detect", "embed", "track", "write")
sys.path.insert(0, str(Path(__file__).parents[1]))


def make_inputs(folder: Path, seconds: int) -> tuple[Path, Path]:
    """A drawn 1280×720 video, and a detector of some 3 GFLOP that finds nothing in particular."""
    import onnx
    from footage_videos import make_video
    from onnx import TensorProto, helper, numpy_helper

    times = [number / 25 for number in range(25 * seconds)]
    video = make_video(folder / "drawn.mp4", len(times), times=times, size=(1280, 720), people=3)
    rng = np.random.default_rng(0)
    nodes, constants, current, channels = [], [], "images", 3
    for layer, (width, stride) in enumerate([(32, 2), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1)]):
        weights = rng.normal(0, (2 / (channels * 9)) ** 0.5, (width, channels, 3, 3)).astype(np.float32)
        constants.append(numpy_helper.from_array(weights, f"w{layer}"))
        nodes.append(
            helper.make_node("Conv", [current, f"w{layer}"], [f"c{layer}"], strides=[stride] * 2, pads=[1] * 4)
        )
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        current, channels = f"r{layer}", width
    boxes = np.zeros((1, 5, 300), dtype=np.float32)
    boxes[0, :4] = 1
    for person in range(4):
        boxes[0, :, person] = [100 + 90 * person, 160, 40, 110, 0.9]
    constants += [numpy_helper.from_array(boxes, "boxes"), numpy_helper.from_array(np.float32(0), "zero")]
    nodes += [
        helper.make_node("ReduceMean", [current], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Squeeze", ["mean"], ["flat"], axes=[3]),
        helper.make_node("Mul", ["flat", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "boxes"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "drawn-detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ("n", 3, 320, 544))],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ("n", 5, 300))],
        constants,
    )
    detector = folder / "drawn-detector.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8), detector)
    return video, detector


def plain(video: Path, detector: str, model: str) -> dict[str, float]:
    """Decode, detect, embed; one frame after another."""
    import av

    from sil_cli.footage.crop import cut
    from sil_cli.footage.detectors import make_detector
    from sil_cli.footage.frames import Frame
    from sil_cli.models.load import load
    from sil_cli.runtime import SilentReporter
    from sil_cli.settings import load_settings

    settings = load_settings(flags={"crop": {"detector": detector}})
    finder = make_detector(settings, "plain", SilentReporter())
    engine = None if model == "none" else load(Path(model), settings, SilentReporter()).engine
    frames = people = 0
    spent = dict.fromkeys(("decode", "detect", "embed"), 0.0)
    began = time.perf_counter()
    from sil_cli.models.embed import embed

    with av.open(str(video)) as container:
        decoded = container.decode(video=0)
        while True:
            start = time.perf_counter()
            frame = next(decoded, None)
            if frame is None:
                break
            image = frame.to_ndarray(format="rgb24")
            spent["decode"] += time.perf_counter() - start
            start = time.perf_counter()
            (found,) = finder.detect([Frame(frames, None, 0.0, image)])
            spent["detect"] += time.perf_counter() - start
            start = time.perf_counter()
            for person in found:
                people += 1
                if engine is not None:
                    embed(engine, [cut(image, person)])
            spent["embed"] += time.perf_counter() - start
            frames += 1
    return {"frames": frames, "people": people, "seconds": time.perf_counter() - began, **spent}


def ours(video: Path, detector: str, model: str, every: float) -> dict[str, float]:
    from sil_cli.footage.crop import crop
    from sil_cli.runtime import SilentReporter
    from sil_cli.settings import load_settings

    with tempfile.TemporaryDirectory() as out:
        wanted = {"videos": [str(video)], "detector": detector, "model": model, "every": every, "out": out}
        began = time.perf_counter()
        result = crop(load_settings(flags={"crop": wanted}), SilentReporter())
        seconds = time.perf_counter() - began
        (footage,) = result.footage
        return {"frames": footage.frames, "people": footage.detections, "seconds": seconds, **result.stages}


def in_a_process(what: str, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--run", what, "--video", arguments.video, "--detector", arguments.detector]
    command += ["--model", arguments.model]
    done = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--detector")
    parser.add_argument("--model", default="none")
    parser.add_argument("--seconds", type=int, default=30, help="of the drawn video")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--run", choices=["plain", "all", "every"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run is not None:
        if arguments.run == "plain":
            found = plain(arguments.video, arguments.detector, arguments.model)
        else:
            every = 0.0 if arguments.run == "all" else 0.2
            found = ours(arguments.video, arguments.detector, arguments.model, every)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({**found, "cpu": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1000}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.video is None:
            arguments.video, detector = make_inputs(Path(scratch), arguments.seconds)
            arguments.detector = arguments.detector or str(detector)
        names = {"plain": "plain loop", "all": "sil crop --every 0", "every": "sil crop --every 0.2"}
        runs = {what: [in_a_process(what, arguments) for _ in range(arguments.repeat)] for what in names}
    base = None
    total = runs["all"][0]["frames"]
    for what, name in names.items():
        best = min(runs[what], key=lambda each: each["seconds"])
        rate = total / best["seconds"]
        base = base or rate
        print(f"{name:<22} {rate:7.1f} frames of video/s  {rate / base:5.2f}×", end="  ")
        print(f"cpu {best['cpu']:6.1f} s  {best['peak_mb']:6.0f} MB")
        stages = {key: best[key] for key in STAGES if key in best}
        shares = "  ".join(f"{key} {value:.2f} s ({value / best['seconds']:.0%})" for key, value in stages.items())
        print(f"    {best['frames']:.0f} frames, {best['people']:.0f} people, {best['seconds']:.2f} s: {shares}")
    print(
        f"threads: OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, {len(os.sched_getaffinity(0))} cores"
    )


if __name__ == "__main__":
    main()
