"""Finding a Chromium never fails; where there is none, one line says so."""

from maestro.publish import browser


def test_no_browser_is_said_not_raised(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(browser, "find_browser", lambda: None)
    monkeypatch.setattr(browser, "_succeeds", lambda *command: asked.append(command))
    browser.install_browser()
    assert asked and browser.NO_BROWSER in capsys.readouterr().out


def test_a_browser_that_does_not_start_is_none(monkeypatch, tmp_path):
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CHROMIUM", str(broken))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(browser, "_playwrights_own", lambda: None)
    assert browser.find_browser() is None
