"""What README and docs/ tell people to open and to type is there."""

import importlib.util
import pathlib
import re
import shlex

import pytest
import typer

from creps_jax import cli
from creps_jax.config import FIELDS

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "experiments/README.md"]
MAIN_FLAGS = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', (ROOT / "creps_jax/main.py").read_text()))
CREPS = typer.main.get_command(cli.app)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")


def prose(page):
    """The text without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page):
    """What #... may name on a page: its headings as GitHub calls them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def commands(text):
    """The simple commands of a shell text: lists of words, without what assigns and leads."""
    text = text.replace("\\\n", " ")
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        words = []
        for word in [*lexer, ";"]:
            if set(word) <= set(";&|<>"):
                yield words
                words = []
            elif words or not (re.match(r"\w+=", word) or word in ("do", "then", "srun")):
                words.append(word)


def faults(words):
    """What is wrong with a command of this package, as sentences; none for other programs'."""
    # A command within a command: ssh ... --command='cd ... && python -m ...', sbatch --wrap '...'.
    inner = [w.removeprefix("--command=") for w in words[1:] if " " in w]
    found = [fault for text in inner for each in commands(text) for fault in faults(each)]
    if "-m" in words and pathlib.Path(words[0]).name == "python":
        module = words[words.index("-m") + 1]
        arguments = words[words.index("-m") + 2 :]
        if module == "creps_jax.main":
            found += main_faults(arguments)
        elif module.startswith("experiments."):
            found += experiment_faults(ROOT / f"{module.replace('.', '/')}.py", arguments)
        elif importlib.util.find_spec(module) is None:
            found.append(f"there is no module {module}")
    elif words[:1] == ["python"] and words[1].endswith(".py"):
        found += experiment_faults(ROOT / words[1], words[2:])
    elif words[:1] == ["creps"]:
        found += creps_faults(words[1:])
    return found


def creps_faults(arguments):
    if not arguments:  # The name alone, in a text.
        return []
    if arguments[0] not in CREPS.commands:
        return [f"creps has no command {arguments[0]}"]
    command = CREPS.commands[arguments[0]]
    options = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    given = [a.partition("=")[0] for a in arguments[1:] if a.startswith("-")]
    return [f"creps {arguments[0]} has no {name}" for name in given if name not in options]


def main_faults(arguments):
    found = []
    for name, _, value in (a.removeprefix("--").partition("=") for a in arguments):
        if name.startswith("config."):
            found += [f"the config has no {name}"] * (name[7:] not in FIELDS)
        elif name not in MAIN_FLAGS:
            found.append(f"creps_jax.main has no --{name}")
        elif name == "config" and not (ROOT / value).is_file() and value != "...":
            found.append(f"there is no {value}")
    return found


def experiment_faults(path, arguments):
    """An experiment's options are read from its source: some need packages that tests do not."""
    if not path.is_file():
        return [f"there is no {path.relative_to(ROOT)}"]
    source = path.read_text(encoding="utf-8")
    options = set(re.findall(r'(?:add_argument\(\s*"--|DEFINE_\w+\(\s*")(\w+)"', source))
    given = [a.removeprefix("--").partition("=")[0] for a in arguments if a.startswith("-")]
    if any(name.startswith("config.") for name in given):
        given = [name for name in given if name[7:] not in FIELDS]
    return [f"{path.name} has no --{name}" for name in given if name not in options]


def shown_commands(page):
    """All commands in a page's bash blocks, and those of this package in its running text."""
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "bash":
            yield from commands(block)
    for code in INLINE.findall(prose(page)):
        if re.match(r"(creps|python -m) ", code):
            yield from commands(code.replace("\n", " "))


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").split()) <= 1500


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for link in LINK.findall(prose(page)):
        if re.match(r"\w+://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_linked_from_the_readme():
    links = {link.partition("#")[0] for link in LINK.findall(prose(README))}
    assert {str(page.relative_to(ROOT)) for page in PAGES[1:]} <= links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_shown_has_its_options(page):
    assert [fault for words in shown_commands(page) for fault in faults(words)] == []


def test_the_pages_show_commands():
    shown = [" ".join(words) for page in PAGES for words in shown_commands(page)]
    for part in ("creps render", "creps video", "creps dataset", "creps build", "creps_jax.main"):
        assert any(part in line for line in shown), part


@pytest.mark.parametrize(
    "line",
    [
        "creps paint --seeds=3",
        "creps render --seed=3",
        "JAX_PLATFORMS=cpu creps video --frames=3",
        "for i in 0 1; do python -m creps_jax.main --confg=configs/demo.py & done; wait",
        ".venv/bin/python -m creps_jax.main --config=configs/demo.py --config.data.sources=x",
        "python -m creps_jax.main --config=configs/none.py | head -3",
        "python -m experiments.none --out=x",
        "python experiments/pictures.py --outs=x",
        "sbatch --wrap 'creps render --parts=0/2'",
        "ssh --command='cd creps_jax && python -m creps_jax.main --workdirs=x'",
    ],
)
def test_a_wrong_command_is_found(line):
    assert len([fault for words in commands(line) for fault in faults(words)]) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_python_block_compiles(page):
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            compile(block, page.name, "exec")
