"""The doctor's report as one HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from html import escape
from importlib.resources import files
from string import Template

from refrase_integrations import __version__
from refrase_integrations.doctor import Examination, Finding

_VERDICTS = ("broken", "lossy", "strict", "right", "unknown")


def page(seen: Examination, nearest: str, profile: str, now: datetime) -> str:
    """Return the page.

    Args:
        seen: the examination.
        nearest: the nearest known host, in a line.
        profile: the host's profile (TOML).
        now: when it was made, in the user's time zone.
    """
    rest = [finding for finding in seen.findings if finding not in seen.problems]
    template = Template((files(__package__) / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        model=escape(seen.model),
        address=escape(seen.base_url),
        date=now.strftime("%Y-%m-%d %H:%M %Z"),
        requests=seen.requests,
        counts="\n".join(_count(seen, verdict) for verdict in _VERDICTS),
        problems=_table(seen.problems) if seen.problems else "<p>Nothing: this host does as documented.</p>",
        rest=_table(rest),
        nearest=escape(nearest),
        profile=escape(profile),
        version=__version__,
    )


def _count(seen: Examination, verdict: str) -> str:
    number = sum(finding.verdict == verdict for finding in seen.findings)
    return f'<li class="{verdict}"><b>{number}</b><span>{verdict}</span></li>'


def _table(findings: Iterable[Finding]) -> str:
    rows = "\n".join(_row(finding) for finding in findings)
    heads = "".join(f"<th>{name}</th>" for name in ("", "Looked at", "Seen", "Taken care of by"))
    return f'<div class="sheet"><table><thead><tr>{heads}</tr></thead><tbody>\n{rows}\n</tbody></table></div>'


def _row(finding: Finding) -> str:
    verdict = f'<span class="verdict {finding.verdict}">{finding.verdict}</span>'
    cells = (verdict, escape(finding.title), escape(finding.seen), escape(finding.practice))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
