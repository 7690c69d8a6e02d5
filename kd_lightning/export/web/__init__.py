"""A static page that runs exported files in the reader's browser: no server, nothing loaded from elsewhere."""

from kd_lightning.export.web.page import Example, write_web_page

__all__ = ["Example", "write_web_page"]
