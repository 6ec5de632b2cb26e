"""An incident API: lets in whoever has its token."""
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
        if self.headers.get("Authorization") != f"Token token={token}":
            return self.answer(401, json.dumps({"error": "who are you?"}))
        if self.command == "POST":
            return self.answer(201, json.dumps({"note": "kept"}))
        return self.answer(200, json.dumps([{"id": 17, "title": "checkout is slow"}]))


stand_in.serve(Api)
