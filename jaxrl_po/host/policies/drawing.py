"""Episodes as GIFs: frames that an environment draws, or states that its suite draws."""

import dataclasses
import functools
import io
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl_po.host.machine.imports import import_extra

# Drawn by pygame, in both suites; the same environments under the same names.
CLASSIC = (
    *("Acrobot-v1", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"),
)
# What gymnax has renderers for.
RENDERED = (
    *CLASSIC,
    *("Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar"),
    *("SpaceInvaders-MinAtar", "Catch-bsuite", "FourRooms-misc", "MetaMaze-misc", "Pong-misc"),
    "PointRobot-misc",
)
FRAME = 240, 320  # height and width of what MuJoCo paints
MAX_FRAMES, GIF_WIDTH, GIF_COLORS = 250, 300, 32  # keep a GIF under a few hundred kB


def check_drawing(suite: str, name: str, gif: str) -> None:
    """Refuse what could not be drawn, before anything is played.

    Raises:
        ValueError: naming the file, the environment, or the extra that is not installed.
    """
    if not gif.lower().endswith(".gif"):
        raise ValueError(f"gif={gif!r}: its name must end with .gif")
    if not Path(gif).parent.is_dir():
        raise ValueError(f"gif={gif!r}: there is no folder {str(Path(gif).parent)!r}")
    if suite not in ("gymnasium", "gymnax", "jumanji", *PAINTERS):
        drawn = ", ".join(sorted(("gymnasium", "gymnax", "jumanji", *PAINTERS)))
        raise ValueError(
            f"gif={gif!r}: environments of {suite} are not drawn; those of {drawn} are"
        )
    if suite == "gymnax" and name not in RENDERED:
        raise ValueError(f"gymnax has no renderer for {name!r}; it has for {', '.join(RENDERED)}")
    import_extra("PIL.Image", "play")
    if suite == "pgx":
        import_extra("resvg_py", "pgx")
    if name in CLASSIC:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # its import greets on stdout
        import_extra("pygame", "play")


class Film:
    """Frames of an episode, thinned out as it grows: half of them go when there are too many."""

    def __init__(self) -> None:
        """No frames."""
        self._images: list[Any] = []
        self._stride, self._time = 1, 0

    def add(self, draw: Callable[[], Any]) -> None:
        """The frame of a step, [height, width, 3]; drawn only where it is kept."""
        if self._time % self._stride == 0:
            image = import_extra("PIL.Image", "play").fromarray(draw())
            height = round(image.height * GIF_WIDTH / image.width)
            self._images.append(image.resize((GIF_WIDTH, height)).quantize(GIF_COLORS))
        if len(self._images) > MAX_FRAMES:
            self._images, self._stride = self._images[::2], 2 * self._stride
        self._time += 1

    def save(self, path: str) -> None:
        """Write the frames."""
        first, *others = self._images
        first.save(
            path,
            save_all=True,
            append_images=others,
            duration=20 * self._stride,
            loop=0,
            optimize=True,
        )


def picture(name: str, frame: Any) -> np.ndarray:
    """The frame that an environment drew.

    Raises:
        ValueError: when it is no picture.
    """
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.dtype != np.uint8:
        raise ValueError(f"{name} draws no pictures: its render() gave {type(frame).__name__}")
    return frame


def _xminigrid_painter(name: str) -> Callable[[Any], Any]:
    from xminigrid.registration import make

    env, params = make(name)
    return lambda timestep: env.render(params, timestep)


def _navix_painter(name: str) -> Callable[[Any], Any]:
    from navix.observations import rgb

    return lambda timestep: np.asarray(rgb(timestep.state))


def _craftax_painter(name: str) -> Callable[[Any], Any]:
    from craftax.craftax_env import make_craftax_env_from_name

    game = make_craftax_env_from_name(name.replace("Symbolic", "Pixels"), auto_reset=False)
    seen = jax.jit(game.get_obs)
    return lambda state: (255 * np.asarray(seen(state))).astype(np.uint8)


def _brax_painter(name: str) -> Callable[[Any], Any]:
    from brax import envs

    model = envs.get_environment(name.partition("/")[0]).unwrapped.sys.mj_model
    paint = _mujoco_painter(model)
    return lambda state: paint(state.pipeline_state.q)


def _pgx_painter(name: str) -> Callable[[Any], Any]:
    """Pgx draws SVG alone, which is made pixels, with letters that matplotlib brings."""
    import pgx
    import resvg_py
    from matplotlib import get_data_path, pyplot
    from PIL import Image

    pyplot.switch_backend("agg")  # which draws MinAtar
    observe, letters = jax.jit(pgx.make(name).observe), f"{get_data_path()}/fonts/ttf"
    families = dict.fromkeys(("font_family", "serif_family", "sans_serif_family"), "DejaVu Sans")

    def paint(state: Any) -> np.ndarray:
        drawing = state.replace(observation=observe(state)).to_svg()
        pixels = resvg_py.svg_to_bytes(
            drawing, background="white", width=GIF_WIDTH, dpi=96, font_dirs=[letters], **families
        )
        return np.asarray(Image.open(io.BytesIO(pixels)).convert("RGB"))

    return paint


def _playground_painter(name: str) -> Callable[[Any], Any]:
    from mujoco_playground import registry

    paint = _mujoco_painter(registry.load(name, config_overrides={"impl": "jax"}).mj_model)
    return lambda state: paint(state.data.qpos)


def _mujoco_painter(model: Any) -> Callable[[Any], Any]:
    """What paints the positions of a model's joints, as its own camera sees them, if it has one."""
    import mujoco

    # On Linux MuJoCo wants a screen, unless MUJOCO_GL said otherwise before it was imported, which
    # is over where one has just trained.
    if sys.platform == "linux" and not {"DISPLAY", "MUJOCO_GL"} & os.environ.keys():
        from mujoco import egl

        sys.modules[mujoco.Renderer.__module__].gl_context.GLContext = egl.GLContext
    data, renderer = mujoco.MjData(model), mujoco.Renderer(model, *FRAME)
    camera = 0 if model.ncam else -1

    def paint(positions: Any) -> np.ndarray:
        data.qpos[:] = positions
        mujoco.mj_forward(model, data)
        renderer.update_scene(data, camera)
        painted: np.ndarray = renderer.render()
        return painted

    return paint


# suite -> of an environment's name what paints a state of the suite's own
PAINTERS = {
    "brax": _brax_painter,
    "craftax": _craftax_painter,
    "navix": _navix_painter,
    "pgx": _pgx_painter,
    "playground": _playground_painter,
    "xminigrid": _xminigrid_painter,
}


def draw_states(
    suite: str, name: str, env_params: Mapping[str, Any], states: list[Any], gif: str
) -> None:
    """Draw the states of an episode as their suite does."""
    if suite == "gymnax":
        draw_gymnax(name, env_params, states, gif)
        return
    states = [state for state, _ in states]  # without our clock
    if suite == "jumanji":
        import jumanji
        from matplotlib import pyplot

        pyplot.switch_backend("agg")
        stride = -(-len(states) // MAX_FRAMES)
        jumanji.make(name).animate(states[::stride], interval=100, save_path=gif)
        return
    film, paint = Film(), PAINTERS[suite](name)
    for state in states:
        film.add(functools.partial(paint, state))
    film.save(gif)


def draw_gymnax(name: str, env_params: Mapping[str, Any], states: list[Any], gif: str) -> None:
    """Let gymnax draw the states of an episode."""
    import gymnax  # pulls in pandas and seaborn
    from gymnax.visualize import Visualizer
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    env, params = gymnax.make(name)
    params = dataclasses.replace(params, **env_params)
    Visualizer(env, params, states[:MAX_FRAMES]).animate(gif)
