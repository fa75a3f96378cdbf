"""What `import batchembed` offers: these names, and no others."""

import subprocess
import sys
from types import ModuleType

import pytest

import batchembed

NAMES = {
    "BatchembedError": type,
    "Job": type,
    "Monitor": type,
    "Summary": type,
    "from_dict": "function",
    "load": "function",
    "merge": "function",
    "plan": "function",
    "report": "function",
    "run": "function",
    "run_async": "function",
    "search": "function",
    "similarity": "function",
    "status": "function",
    "verify": "function",
    "__version__": str,
}


def test_the_public_names_are_these():
    """A name more or less is a promise more or less, to be made here on purpose."""
    assert sorted(batchembed.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_what_it_says(name):
    """Each is there, of its kind, documented, and not the module of the same name."""
    found, kind = getattr(batchembed, name), NAMES[name]
    assert not isinstance(found, ModuleType)
    if kind == "function":
        assert callable(found)
        assert found.__doc__
        assert found.__module__.startswith("batchembed")
    else:
        assert isinstance(found, kind)


@pytest.mark.parametrize("name", ["run", "plan", "report", "similarity", "verify"])
def test_a_name_stays_a_function_whatever_is_imported(name):
    """Importing the module of a public function's name does not put it in the function's place."""
    code = f"import batchembed.{name}, batchembed; assert callable(batchembed.{name})"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_what_is_not_there_is_an_attribute_error():
    """An unknown name is named."""
    with pytest.raises(AttributeError, match="`embeddings`"):
        _ = batchembed.embeddings


def test_the_errors_are_one_tree():
    """Whoever catches BatchembedError catches every failure that is told apart."""
    from batchembed import errors

    found = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert len(found) > 8
    assert all(issubclass(e, batchembed.BatchembedError) for e in found)


def test_the_package_says_that_it_is_typed():
    """Type checkers of whoever uses it look at our hints."""
    from importlib.resources import files

    assert files("batchembed").joinpath("py.typed").is_file()
