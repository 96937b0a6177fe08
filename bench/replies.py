"""What bench/serve_compare asks a server where it matters what the replies say: dialogues whose reply is known from them,
in full or nearly, and questions whose reply is not. SmolLM2 repeats a long text faithfully once the dialogue has it
twice; asked for the first time it tells it in words of its own."""

import http.client
import json
import pathlib
import threading
import time

from servers import Failure

TIMEOUT_S = 300

TEXTS = (
    "The old lighthouse at the end of the harbour was built in 1848 by a family of masons who had come from the north. "
    "Its walls are nearly two metres thick at the base, and the stairs inside wind upwards through five floors before "
    "they reach the lamp. For more than a hundred years a keeper lived there with his family. He trimmed the wick every "
    "evening, wound the clockwork that turned the lens, and wrote the weather into a heavy book that is now kept in the "
    "town library. In 1962 the lamp was replaced by an electric one, and ten years later the last keeper moved to a "
    "small house near the market. Since then the lighthouse has stood empty for most of the year. In summer a group of "
    "volunteers opens it to visitors on Saturdays, shows them the lens and the book, and sells postcards to pay for the "
    "paint. Last winter a storm broke two windows on the third floor and tore away part of the railing. The council "
    "agreed to pay for half of the repairs, and the rest was collected by the school, the sailing club and the bakery. "
    "The work began in March and was finished in time for the first boats of the season. A new railing of galvanised "
    "steel now runs around the gallery, and the windows have been replaced with glass that can withstand the strongest "
    "wind. The volunteers hope that more people will come this year, because the path along the harbour wall has been "
    "repaired as well and can be used by wheelchairs and prams. They have also printed a new leaflet, which tells the "
    "story of the building on four pages, with photographs from the archive and a drawing of the lens. It can be had at "
    "the entrance, at the station and in the library, and it costs nothing. Those who want to climb the tower after dark "
    "should write to the group a week before, since no more than eight people can stand on the gallery at a time. On "
    "clear nights one sees the lights of three other harbours from there.",
    "The committee met on Tuesday evening in the reading room to discuss the plans for the new garden behind the station. "
    "Nine members were present, and two had sent their apologies. The chair thanked everybody for coming in spite of the "
    "snow and opened the meeting shortly after seven. The minutes of the last meeting were read and approved without any "
    "changes. The treasurer reported that the account stood at 3,410 euros after the payment for the fence, and that the "
    "bank had promised a further gift of 500 euros if the garden is opened before the end of June. The first question "
    "was where the trees should stand. After a long discussion it was decided to plant six apple trees along the wall "
    "and to leave the middle of the ground open, so that children can play there and a tent can be put up for the summer "
    "fair. The second question was the water. A well would cost too much, but the railway company is willing to let us "
    "collect the rain from the roof of the goods shed, which would fill two large tanks in an ordinary spring. Two "
    "members offered to build the frame for the tanks from old sleepers. The third question was the gate, which has to "
    "be locked at night. Three neighbours said that they would take turns with the key, and the chair will ask a fourth "
    "one before the next meeting. Under any other business a member asked whether bees could be kept in the far corner. "
    "Nobody objected, but the rules of the town will have to be read first. The secretary will write to the office and "
    "report what they answer. The meeting was closed at twenty past nine, and the next one will take place on the first "
    "Tuesday in March at the same time and in the same room. Coffee and cake will be brought by the two youngest members. Whoever "
    "can lend a spade, a wheelbarrow or a long ladder is asked to put it into the shed by the end of the month and to "
    "mark it with a name, so that everything finds its way back when the work is done.",
)
PROGRAM = '''import csv
import sys


def read_rows(path):
    rows = []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            rows.append(row)
    return rows


def total_of(rows, column):
    total = 0.0
    for row in rows:
        value = row[column]
        if value == "":
            continue
        total += float(value)
    return total


def average_of(rows, column):
    count = 0
    total = 0.0
    for row in rows:
        value = row[column]
        if value == "":
            continue
        total += float(value)
        count += 1
    if count == 0:
        return None
    return total / count


def write_report(rows, columns, out):
    for column in columns:
        average = average_of(rows, column)
        if average is None:
            out.write(f"{column}: no values\\n")
        else:
            out.write(f"{column}: total {total_of(rows, column):.2f}, average {average:.2f}\\n")


def main(arguments):
    if len(arguments) < 2:
        print("usage: report FILE COLUMN...", file=sys.stderr)
        return 2
    rows = read_rows(arguments[0])
    write_report(rows, arguments[1:], sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
'''
QUESTIONS = (
    "Why is the sky blue?", "Write a short story about a cat who finds a key.", "How do I bake bread without yeast?",
    "Explain what a binary search tree is.", "What should I see in Lisbon in two days?",
    "Write a letter to my landlord about a broken heater.", "What is the difference between weather and climate?",
    "Give me five names for a coffee shop by the sea, with a reason for each.", "How does a refrigerator work?",
    "Write a poem about the first snow.", "Summarise the causes of the First World War.",
    "What is a good training plan for a first ten kilometre run?", "Explain recursion to a child.",
    "Write a Python function that finds the most frequent word in a text.", "How do vaccines work?",
    "Describe a day in the life of a medieval blacksmith.", "What are the pros and cons of working from home?",
    "Why do cats purr?", "How can I learn to draw faces?", "Tell me about the planets of the solar system.",
)

PERSON = {
    "type": "object", "additionalProperties": False,
    "required": ["name", "age", "email", "address", "hobbies", "biography"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 60},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "email": {"type": "string", "format": "email"},
        "address": {"type": "object", "additionalProperties": False, "required": ["street", "city"],
                    "properties": {"street": {"type": "string"}, "city": {"type": "string"}}},
        "hobbies": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 5},
        "biography": {"type": "string", "minLength": 200, "maxLength": 600},
    },
}


def message(role, content):
    return {"role": role, "content": content}


def twice(asked, text, then):
    return [message("user", f"{asked}\n\n{text}"), message("assistant", text), message("user", then)]


COPIES = tuple(
    {"messages": twice("Repeat this text word for word:", text, then), "max_tokens": 480, "temperature": 0}
    for text in TEXTS for then in ("Once more, please.", "Write it again, with an exclamation mark behind the first sentence.")
)
RENAMINGS = tuple(
    {"messages": twice("Write this program again:", f"```python\n{PROGRAM}```",
                       f"Now rename the variable `{old}` to `{new}` and write the whole program again."),
     "max_tokens": 480, "temperature": 0}
    for old, new in (("rows", "records"), ("value", "cell"))
)
FREE_CHATS = tuple({"messages": [message("user", question)], "max_tokens": 200, "temperature": 0.7, "seed": number}
                   for number, question in enumerate(QUESTIONS))

PEOPLE = tuple({"messages": [message("user", f"Make up {who}: name, age, email, address, hobbies and a biography, as JSON.")],
                "max_tokens": 200, "temperature": 0.7, "seed": number}
               for number, who in enumerate(("a baker", "a pilot", "a teacher", "a farmer", "a nurse", "a singer")))
PEOPLE_BY_SCHEMA = tuple({**person, "response_format": {"type": "json_schema",
                                                        "json_schema": {"name": "person", "schema": PERSON}}}
                         for person in PEOPLE)


def engine_cpu_s(server):
    """That the processes which compute have used: the server's children, or itself where it has none."""
    own = str(server.process.pid)
    children = [pid for path in pathlib.Path(f"/proc/{own}/task").glob("*/children") for pid in path.read_text().split()]
    times = (path.read_text().split()[0] for pid in children or [own]
             for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(map(int, times)) / 1e9


def ask(server, body):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        reply = json.loads(response.read())
        if response.status != 200:
            raise Failure(f"{server.url}: {response.status} {reply}\n{server.log_end()}")
        return reply
    finally:
        connection.close()


def one_by_one(server, dialogues):
    """Each under a salt of its own, so that none is found in what another has left."""
    each = []
    for number, dialogue in enumerate(dialogues):
        begin = engine_cpu_s(server)
        reply = ask(server, {**dialogue, "cache_salt": f"d{number}"})
        each.append({"cpu_s": engine_cpu_s(server) - begin, "tokens": reply["usage"]["completion_tokens"],
                     "ms": reply["timings"]["decode_ms"], "drafted": reply["timings"]["draft_tokens"],
                     "accepted": reply["timings"]["draft_accepted"], "text": reply["choices"][0]["message"]["content"]})
    return {"tokens_per_s": 1000 * sum(one["tokens"] - 1 for one in each) / sum(one["ms"] for one in each), "each": each}


def together(server, dialogues):
    replies = [None] * len(dialogues)

    def take(number):
        replies[number] = ask(server, {**dialogues[number], "cache_salt": f"d{number}"})

    threads = [threading.Thread(target=take, args=(number,)) for number in range(len(dialogues))]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begin
    if None in replies:
        raise Failure(f"{server.url}: some chats got no reply\n{server.log_end()}")
    return {"tokens_per_s": sum(reply["usage"]["completion_tokens"] for reply in replies) / seconds,
            "each": [{"text": reply["choices"][0]["message"]["content"]} for reply in replies]}
