import os

import torch

# Before a test module loads Triton, as timm does: it reads this only once.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_terminal_summary(terminalreporter):
    """Show what tests recorded as properties; prints get lost in workers."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                for title, text in report.user_properties:
                    terminalreporter.section(title)
                    terminalreporter.write_line(text)
