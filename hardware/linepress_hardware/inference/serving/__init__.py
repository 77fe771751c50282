"""Serving engines: scheduler rules as data, an event loop, and times of every request."""

from linepress_hardware.inference.serving.engine import POLICIES, Engine, engine, engines
from linepress_hardware.inference.serving.simulate import Kernels, ServingResult, kv_room_tokens, simulate

__all__ = ["POLICIES", "Engine", "Kernels", "ServingResult", "engine", "engines", "kv_room_tokens", "simulate"]
