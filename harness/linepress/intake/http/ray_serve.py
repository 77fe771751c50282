"""The service under Ray Serve: ``serve.run(deployment(settings))``. Needs ``pip install 'ray[serve]'``.

Each replica is one process over the same database and data folder. With SQLite keep one replica; with PostgreSQL and
a shared folder there may be several. The rate limit is each replica's own. Runners are not started here: have
``linepress serve --runner-only`` beside it.
"""

from __future__ import annotations

from typing import Any

from linepress.intake.settings import IntakeError, Settings


def deployment(settings: Settings, replicas: int = 1) -> Any:
    """A Ray Serve application (`ray.serve.Application`) over ``settings``.

    Raises `IntakeError` for several replicas over SQLite, and where Ray Serve is not installed.
    """
    if replicas > 1 and settings.url.startswith("sqlite"):
        raise IntakeError(f"{replicas} replicas over SQLite: would wait for each other; give a PostgreSQL URL")
    try:
        from ray import serve
    except ModuleNotFoundError as error:
        raise IntakeError(f"Ray Serve lacks {error.name}; pip install 'ray[serve]'") from None
    from linepress.intake.http.app import build_app

    class Intake:
        """One replica."""

    # The builder runs in the replica, where the database connections have to be made.
    ingress = serve.ingress(lambda: build_app(settings))(Intake)
    made: Any = serve.deployment(ingress, name="intake", num_replicas=replicas)
    return made.bind()
