"""A run of the archive as one HTML file that needs nothing but a browser.

    report(archive, "r-80706f3de13e", roofs=())    -> the text of the file

Reading order: gather.py (archive -> records), credit.py and roofline.py (records -> tables), tree.py (where the nodes
of the lineage stand), charts.py (records -> plotly figures), page.py and templates/ (all of it -> HTML).

The file opens no connection: its Content-Security-Policy forbids that, and runs only the scripts that were put into
it. Texts of candidates, models and compilers are hostile: templates escape them, scripts set them as text.

Not covered: several runs (kernelevo/compare.py), and anything that the archive does not hold: the report measures
nothing and fills no gap.
"""

from kernelevo.report.page import report
from kernelevo.report.roofline import Roof, roof_of

__all__ = ["Roof", "report", "roof_of"]
