"""Version 2: names keep the content they were validated with, audit rows are chained, an index for the list."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from linepress.intake.store.audit import GENESIS, link
from linepress.intake.store.names import content_of

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Make the table of names from what was validated, and the chain from the rows there are, in their order."""
    names = op.create_table(
        "names",
        sa.Column("partner", sa.String(64), sa.ForeignKey("partners.id"), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("content", sa.String(64), nullable=False),
        sa.Column("submission", sa.String(40), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.add_column("audit", sa.Column("chain", sa.String(64), nullable=False, server_default=""))
    op.create_index("submissions_by_use", "submissions", ["partner", "state", "files_gone_at", "total_bytes"])
    conn = op.get_bind()
    found = conn.execute(
        sa.text("SELECT id, partner, name, updated_at FROM submissions WHERE state = 'validated' ORDER BY created_at")
    ).all()
    taken: set[tuple[str, str]] = set()
    for row in found:
        files = conn.execute(sa.text("SELECT path, sha256 FROM files WHERE submission = :id"), {"id": row.id}).all()
        if (row.partner, row.name) not in taken:
            taken.add((row.partner, row.name))
            values = {"partner": row.partner, "name": row.name, "submission": row.id, "at": row.updated_at}
            content = content_of([{"path": file.path, "sha256": file.sha256} for file in files])
            conn.execute(names.insert().values(**values, content=content))
    head = GENESIS
    for entry in conn.execute(sa.text("SELECT * FROM audit ORDER BY id")).mappings().all():
        head = link(head, dict(entry))
        conn.execute(sa.text("UPDATE audit SET chain = :chain WHERE id = :id"), {"chain": head, "id": entry["id"]})
    conn.execute(sa.text("UPDATE meta SET value = '2' WHERE key = 'schema_version'"))
    conn.execute(sa.text("INSERT INTO meta (key, value) VALUES ('audit_head', :head)"), {"head": head})
