"""A GitHub-like API: two repositories, one token, and an endpoint that says back what it was told."""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import stand_in


class Api(stand_in.Handler):
    def reply(self):
        self.body()
        with open(os.path.join(self.server.folder, "token"), encoding="utf-8") as file:
            token = file.read().strip()
        sent = self.headers.get("Authorization", "")
        if sent not in (f"Bearer {token}", f"token {token}"):
            return self.answer(401, json.dumps({"message": "Bad credentials"}))
        if self.path == "/repos/acme/app/debug":
            return self.answer(200, json.dumps({"you_sent": sent}))
        if self.command == "POST":
            return self.answer(201, json.dumps({"number": 7, "title": "made by the agent"}))
        return self.answer(200, json.dumps({"full_name": self.path.removeprefix("/repos/"), "private": True}))


stand_in.serve(Api)
