"""Tests in a real browser. A package, so that its conftest is `browser.conftest` for everybody."""
