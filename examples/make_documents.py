"""Write the two binary files of the example collection: the annual report (PDF) and the minutes (DOCX).

They are committed, so this is needed only when their text changes:

    pip install fpdf2 python-docx
    python examples/make_documents.py
"""

from __future__ import annotations

import zipfile
from datetime import datetime, timezone
from pathlib import Path

import docx
from fpdf import FPDF

LIBRARY = Path(__file__).parent / "library"
WRITTEN = datetime(2024, 3, 28, 9, 0, tzinfo=timezone.utc)

REPORT: list[tuple[str, list[str | list[list[str]]]]] = [
    (
        "Annual Report 2023",
        [
            "Port Ansel Harbour Authority presents its report for the year that ended on 31 December 2023. It was "
            "approved by the harbour board on 27 March 2024 and is laid before the county assembly as the Harbours "
            "Act requires.",
            "The year was a good one for the quays and a hard one for the people who work on them. Cargo rose by nine "
            "per cent, the ferry carried more passengers than in any year since 2011, and seven incidents were entered "
            "in the register, two more than in 2022. Three of them need not have happened, and this report says so.",
            "The harbour master, Ines Calloway, took office on 1 February 2023. She follows Rolf Tangen, who had held "
            "the post for seventeen years and to whom the board records its thanks.",
        ],
    ),
    (
        "Traffic",
        [
            "In 2023 the harbour was called at 1,846 times. The ferry Maren Tyde alone accounts for 1,204 calls; she "
            "carried 88,310 passengers and 17,940 vehicles between Port Ansel and the islands. Of her 1,248 planned "
            "sailings 44 were cancelled, 39 of them for weather and five for a fault in her bow thruster.",
            "Table 1. Cargo over the quays, in tonnes",
            [
                ["Cargo", "2022", "2023"],
                ["Slate and aggregates", "41,200", "46,850"],
                ["Timber", "8,730", "7,910"],
                ["General cargo", "12,460", "13,120"],
                ["Fish landed", "5,340", "6,270"],
                ["Fuel", "3,980", "4,050"],
            ],
            "Slate did best. A new saw at the Cobble Bay quarry came into use in May, and from then on two ships a "
            "week loaded at Slate Wharf instead of three a fortnight. Timber fell because the windblown wood of the "
            "storm of 2021 has now been cleared.",
            "Visiting yachts spent 2,915 nights on the pontoon, a fall of four per cent. The wet July is the likely "
            "reason. In September a questionnaire was answered by 212 crews: they praised the staff and complained of "
            "the showers, which will be rebuilt in the winter of 2024 to 2025.",
        ],
    ),
    (
        "Money",
        [
            "Income was 4.36 million crowns and expenditure 4.11 million, which leaves a surplus of 250,000 crowns. "
            "The surplus goes to the dredging fund. At the end of the year that fund stood at 705,000 crowns, "
            "enough to dredge Kittow Channel without a loan.",
            "Table 2. Main income and expenditure, in thousand crowns",
            [
                ["Item", "2022", "2023"],
                ["Harbour dues", "1,890", "2,065"],
                ["Pilotage", "640", "702"],
                ["Crane and ice", "811", "838"],
                ["Yachts", "158", "149"],
                ["Wages", "2,010", "2,140"],
                ["Maintenance", "930", "1,015"],
            ],
            "The largest single expense was the renewal of the fenders on North Quay 1, at 186,000 crowns. Wages rose "
            "by 6.5 per cent under the agreement of May, and one post was added: since 1 October the harbour has had "
            "an apprentice in the engineer's department, Yusuf Lind, the first for eleven years.",
        ],
    ),
    (
        "Safety and the environment",
        [
            "Seven incidents were recorded. Two were of severity 3: a deckhand went into the water from Fish Pier "
            "East in January, and ammonia escaped at the ice plant in September. In both cases something that was "
            "known to be due had been left undone. The board has therefore asked that the list of overdue services "
            "be read out at each of its meetings, beginning in January 2024.",
            "Water in the basin was tested on 24 days. It was fit for bathing on 22 of them; the two failures followed "
            "heavy rain, when the storm drain at the slipway overflows. The county will rebuild the drain in 2025.",
            "Shore power supplied 318,000 kilowatt hours, so that the ferry no longer runs her generators at night. "
            "By the authority's estimate this saved 76 tonnes of fuel.",
            "Looking ahead",
            "Three works are planned. Kittow Channel is to be dredged to 5.0 metres. The workboat Sula, built in 2003, "
            "is to be replaced in 2026 by an electric boat, for which a grant of 200,000 crowns has been promised. And "
            "the leading lights of the channel will be given a character of their own, so that no one need mistake "
            "the ice plant for them again.",
        ],
    ),
]
HEADINGS = ("Looking ahead",)


class Report(FPDF):
    """A page with a running header and a page number."""

    def header(self) -> None:
        """Write the line above the text."""
        self.set_font("helvetica", size=8)
        self.cell(0, 5, "Port Ansel Harbour Authority - Annual Report 2023", align="R")
        self.ln(12)

    def footer(self) -> None:
        """Write the page number."""
        self.set_y(-15)
        self.set_font("helvetica", size=8)
        self.cell(0, 5, f"Page {self.page_no()} of {{nb}}", align="C")


def write_report(path: Path) -> None:
    """Write the annual report, a section a page."""
    pdf = Report(format="A5")
    pdf.set_title("Annual Report 2023")
    pdf.set_author("Port Ansel Harbour Authority")
    pdf.set_creation_date(WRITTEN)
    pdf.set_margin(18)
    for title, parts in REPORT:
        pdf.add_page()
        pdf.set_font("helvetica", "B", 16)
        pdf.multi_cell(0, 9, title, new_x="LMARGIN", new_y="NEXT")
        pdf.ln(2)
        for part in parts:
            if isinstance(part, list):
                write_table(pdf, part)
            elif part in HEADINGS:
                pdf.set_font("helvetica", "B", 13)
                pdf.multi_cell(0, 7, part, new_x="LMARGIN", new_y="NEXT")
                pdf.ln(2)
            else:
                pdf.set_font("times", size=10.5)
                pdf.multi_cell(0, 5, part, align="J", new_x="LMARGIN", new_y="NEXT")
                pdf.ln(3)
    pdf.output(str(path))


def write_table(pdf: FPDF, rows: list[list[str]]) -> None:
    """Write a table, its header in bold."""
    for number, row in enumerate(rows):
        pdf.set_font("helvetica", "B" if number == 0 else "", 9)
        pdf.cell(60, 5, row[0])
        for value in row[1:]:
            pdf.cell(25, 5, value, align="R")
        pdf.ln(5)
    pdf.ln(4)


def write_minutes(path: Path) -> None:
    """Write the minutes of a board meeting."""
    word = docx.Document()
    properties = word.core_properties
    properties.title = "Minutes of the harbour board, 22 May 2024"
    properties.author = "Oona Brandvold"
    properties.created = properties.modified = WRITTEN
    word.add_heading("Minutes of the harbour board", level=1)
    word.add_paragraph("Held on 22 May 2024 at 17:00 in the net loft. The meeting was closed at 18:50.")
    word.add_paragraph(
        "Present: Gudrun Aske (chair), Leif Corran, Mirela Stan, Jonas Pell, Ines Calloway (harbour master), Marta "
        "Osterlind (harbour engineer). Apologies: Dag Ferrow. Minutes: Oona Brandvold."
    )
    word.add_heading("1. Dredging of Kittow Channel", level=2)
    word.add_paragraph(
        "The harbour master reported that the survey of March 2024 found 4.2 metres over the bar. Borrow & Haugh have "
        "held their price but cannot come before 9 September 2024, because their dredger is under repair. The board "
        "agreed to the new date. The proposal of November 2023 to begin on 1 September is void."
    )
    word.add_paragraph("Decided: contract to be signed by 7 June.", style="List Bullet")
    word.add_paragraph("Decided: notice to mariners four weeks before the work begins.", style="List Bullet")
    word.add_heading("2. Overdue services", level=2)
    word.add_paragraph("The engineer read the list of services that are overdue.")
    table = word.add_table(rows=1, cols=4)
    for cell, text in zip(table.rows[0].cells, ("Item", "Due", "Reason", "New date"), strict=True):
        cell.text = text
    for row in (
        ("Slipway winch wire", "15 April 2024", "Wire on order", "12 June 2024"),
        ("Ice plant compressor 1", "30 April 2024", "Fitter ill", "3 June 2024"),
        ("Lamp on the south mole", "10 May 2024", "Weather", "First calm day"),
    ):
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    word.add_heading("3. Wind limits", level=2)
    word.add_paragraph(
        "Ms Osterlind presented the report on the crane incident of 9 February. The board accepted her "
        "recommendation to lower the limits for both cranes by four knots from 1 July. Mr Pell voted against, since "
        "he expects eleven lost working days a year; the recommendation was carried by three votes to one."
    )
    word.add_heading("4. Showers on the yacht pontoon", level=2)
    word.add_paragraph(
        "Three offers were opened. The lowest, from Fenwright Builders, is 94,500 crowns. The board wishes to see a "
        "version with solar panels and will decide at its next meeting, on 18 September 2024."
    )
    word.save(str(path))
    _fix_dates(path)


def _fix_dates(path: Path) -> None:
    """Give every entry of the archive the same date, so that the file is the same each time it is made."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            entry = zipfile.ZipInfo(name, date_time=WRITTEN.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)


if __name__ == "__main__":
    write_report(LIBRARY / "annual-report-2023.pdf")
    write_minutes(LIBRARY / "minutes-2024-05-22.docx")
