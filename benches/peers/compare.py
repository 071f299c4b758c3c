"""Runs fedcircuit and its peers on the same experiment files, in turn, and writes benches/results/DATE-MACHINE.md.

    python compare.py --data DIR                          all workloads, all contenders that are found
    python compare.py --data DIR --only flute-lr          one workload
    python compare.py --data DIR --rounds 1 --images 2000 to see that everything runs

DIR holds MNIST's gzipped IDX files. Contenders whose Python is not given are left out, and said to be.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
WORKLOADS = ["paper-round", "paper-discovery", "flute-lr", "cross-device", "mcmahan-2nn", "pfllib-253"]


def ours(args, device, file):
    """fedcircuit's own clock: training and circuits of each round, without the evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "run"
        command = [args.fedcircuit, "run", file, "--device", device, "--data", args.data, "--out", out, "--quiet"]
        command += ["--rounds", str(args.rounds)] * bool(args.rounds)
        command += ["--set", f"data.train_examples={args.images}"] * bool(args.images)
        if args.search_steps and "[circuits]" in file.read_text():
            command += ["--set", f"circuits.steps={args.search_steps}"]
        subprocess.run([str(c) for c in command], check=True, timeout=args.limit, capture_output=True, text=True)
        rounds = [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]
        about = json.loads((out / "environment.json").read_text())
    seconds = [r["seconds"]["train"] + r["seconds"]["circuits"] for r in rounds]
    later = seconds[1:] or seconds
    name = "fedcircuit, " + ("CPU engine" if device == "cpu" else about["device"]["name"])
    result = {"contender": name, "seconds": statistics.median(later), "fastest": min(later), "slowest": max(later)}
    return result | {"first": seconds[0], "accuracy": rounds[-1]["global"]["accuracy"]}


def theirs(args, python, script, extra, file):
    command = [python, HERE / script, "--data", args.data, "--experiment", file, *extra]
    for flag, value in [("--rounds", args.rounds), ("--images", args.images), ("--search-steps", args.search_steps)]:
        command += [flag, str(value)] * bool(value)
    done = subprocess.run([str(c) for c in command], check=True, timeout=args.limit, capture_output=True, text=True)
    return json.loads(done.stdout)


def contenders(args, workload):
    """(what it is called if it fails, how it is run), ours first."""
    file = HERE.parent / "workloads" / f"{workload}.toml"
    for device in args.device:
        yield f"fedcircuit, {device}", lambda: ours(args, device, file)
    if args.torch:
        on = ["--device", args.torch_device]
        yield "PyTorch, one client after another", lambda: theirs(args, args.torch, "sequential.py", on, file)
        if workload != "paper-discovery":
            yield "PyTorch, batched by hand", lambda: theirs(args, args.torch, "batched.py", on, file)
            if args.compile:
                compiled = [*on, "--compile"]
                yield "PyTorch, batched, compiled", lambda: theirs(args, args.torch, "batched.py", compiled, file)
    if args.jax and workload != "paper-discovery":
        for wave in ("1", "50"):
            yield f"JAX, wave {wave}", lambda: theirs(args, args.jax, "jax_vmap.py", ["--wave", wave], file)


def attempt(args, name, run):
    try:
        return run()
    except subprocess.TimeoutExpired:
        return {"contender": name, "failed": f"over {args.limit} s"}
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines() or ["no message"]
        return {"contender": name, "failed": lines[-1][:120]}


def table(workload, results):
    """Markdown: seconds a round, and by how much ours is faster (above 1) or slower (below 1)."""
    rows = ["", f"## {workload}", "", "| | seconds a round | spread | first round | accuracy | theirs by ours |"]
    rows.append("|---|---|---|---|---|---|")
    base = results[0].get("seconds")
    for r in results:
        if "failed" in r:
            rows.append(f"| {r['contender']} | {r['failed']} | | | | |")
            continue
        ratio = "1" if r is results[0] else f"{r['seconds'] / base:.2f}" if base else ""
        spread = f"{r['fastest']:.3g} to {r['slowest']:.3g}"
        rows.append(f"| {r['contender']} | {r['seconds']:.3g} | {spread} | {r['first']:.3g} "
                    f"| {100 * r['accuracy']:.1f}% | {ratio} |")
    return "\n".join(rows) + "\n"


def machine():
    path = pathlib.Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", path.read_text()) if path.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the gzipped MNIST files")
    parser.add_argument("--fedcircuit", type=pathlib.Path, default=HERE.parent.parent / "target/release/fedcircuit")
    parser.add_argument("--device", action="append", help="as fedcircuit's; may be given more than once [default: cpu]")
    parser.add_argument("--torch", help="a Python that has torch")
    parser.add_argument("--torch-device", default="cpu", help="as torch names it [default: cpu]")
    parser.add_argument("--jax", help="a Python that has jax")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--only", choices=WORKLOADS, action="append")
    parser.add_argument("--limit", type=int, default=600, help="seconds a contender may take for a workload")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--images", type=int)
    parser.add_argument("--search-steps", type=int)
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parent / "results")
    args = parser.parse_args()
    args.device = args.device or ["cpu"]
    for missing in [name for name in ("torch", "jax") if not getattr(args, name)]:
        print(f"left out, since --{missing} names no Python: {missing}")

    name, day = machine(), datetime.date.today().isoformat()
    text = f"# fedcircuit and its peers, {day}\n\n{name}, {os.cpu_count()} threads, {platform.system()}; float32.\n"
    text += "\nSeconds are those of a round's training, averaging and search, medians of all rounds after the first;\n"
    text += "accuracy is that of the global model on the 10,000 test images after the last round. Each program deals and\n"
    text += "shuffles with its own generator. fedcircuit also measures the circuits it finds, the others only search.\n"
    for workload in args.only or WORKLOADS:
        results = []
        for label, run in contenders(args, workload):
            results.append(attempt(args, label, run))
            print(workload, json.dumps(results[-1]), flush=True)
        text += table(workload, results)
    args.out.mkdir(exist_ok=True)
    short = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    file = args.out / f"{day}-{short}.md"
    file.write_text(text)
    print(f"\n{text}\nwritten to {file}")


if __name__ == "__main__":
    main()
