"""The words' rule on the real model: every way to ask decides alike, and what users say about an edit holds."""

from __future__ import annotations

import pytest
import torch

from memoir_fast import EditRequest, MemoirConfig, MemoirModel
from memoir_fast.base.attachment import attachment_of
from tests.support.models import bits, tiny_memoir

FACTS = [
    EditRequest("Who leads Norvane Robotics?", "Lena Ortiz"),
    EditRequest("What is the price of item SKU-1001?", "12 euros"),
    EditRequest(
        "Which port does the billing gateway listen on?",
        "8443",
        rephrasings=("Where can I reach the billing gateway?",),
    ),
    EditRequest("When is the canteen open?", "11 to 14", not_prompts=("When is the canteen closed?",)),
]
UNRELATED = "Which planet is closest to the sun?"


@pytest.fixture(scope="module")
def model(smollm2):
    made = MemoirModel(*smollm2, MemoirConfig(precision="fast"))
    made.edit_many(FACTS)
    yield made
    made.detach()


@pytest.fixture
def base(model, smollm2):
    """The base model, without the module's memory."""
    model.detach()
    yield smollm2
    attachment = attachment_of(smollm2[0])
    if attachment is not None:  # a test that failed left one
        attachment.detach()
    model.attach()


def decided(model, prompts, **padding) -> list[int]:
    """What a forward pass of the rendered chats reads, with no word on where the questions stand."""
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    texts = model.tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    model.tokenizer.padding_side = padding.get("side", "left")
    batch = model.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.no_grad():
        model.model(**batch)
    return model.router.last.edits


def test_every_way_to_ask_decides_alike(model):
    prompts = [
        "Who is the head of Norvane Robotics?",
        UNRELATED,
        "I am writing a page for new colleagues. Some of our notes were lost. What is the price of item SKU-1001?",
        "where can i reach the billing gateway",
        "What is the price of item SKU-1002?",
    ]
    wanted = [0, -1, 1, 2, -1]
    assert [-1 if r["edit"] is None else r["edit"] for r in model.route(prompts)] == wanted
    assert decided(model, prompts) == wanted == decided(model, prompts, side="right")
    assert [decided(model, [prompt])[0] for prompt in prompts] == wanted
    model.ask(prompts, max_new_tokens=1)
    assert model.router.last.edits == wanted
    for prompt, edit in zip(prompts, wanted, strict=True):
        model.ask(prompt, max_new_tokens=1)
        assert model.router.last.edits == [edit]


def test_the_model_itself_generates_the_answers(model):
    chat = [
        {"role": "system", "content": "You are the assistant of a small company."},
        {"role": "user", "content": "Hello! Did you sleep well?"},
        {"role": "assistant", "content": "I did, thank you."},
        {"role": "user", "content": "Could you tell me who leads Norvane Robotics?"},
    ]
    inputs = model.tokenizer.apply_chat_template(
        chat, return_tensors="pt", add_generation_prompt=True, return_dict=True
    )
    out = model.model.generate(**inputs, max_new_tokens=12, do_sample=False)
    answer = model.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == model.ask(chat) == "Lena Ortiz"
    ours = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert torch.equal(ours, out)
    beams = model.model.generate(**inputs, max_new_tokens=12, do_sample=False, num_beams=2)
    assert "Lena Ortiz" in model.tokenizer.decode(beams[0, inputs["input_ids"].shape[1] :])


def test_the_last_question_of_a_chat_decides_not_an_earlier_one(model):
    earlier = [{"role": "user", "content": FACTS[0].prompt}, {"role": "assistant", "content": "Lena Ortiz"}]
    assert model.route([[*earlier, {"role": "user", "content": UNRELATED}]])[0]["edit"] is None
    assert model.route([[*earlier, {"role": "user", "content": FACTS[1].prompt}]])[0]["edit"] == 1


def test_generating_from_a_rendered_chat_looks_for_the_last_question_too(model):
    earlier = [{"role": "user", "content": FACTS[0].prompt}, {"role": "assistant", "content": "Lena Ortiz"}]
    chat = [*earlier, {"role": "user", "content": UNRELATED}]
    inputs = model.tokenizer.apply_chat_template(
        chat, return_tensors="pt", add_generation_prompt=True, return_dict=True
    )
    for generates in (model.model, model):
        generates.generate(**inputs, max_new_tokens=2, do_sample=False)
        assert model.router.last.edits == [-1]


def test_what_reads_nothing_keeps_every_bit(model):
    tokens = torch.tensor([model.encoder.prompt(UNRELATED).tokens])
    with torch.no_grad():
        edited = model.model(input_ids=tokens).logits
        with model.disabled():
            base = model.model(input_ids=tokens).logits
    assert torch.equal(bits(edited), bits(base))


def test_embeddings_are_refused_with_a_way_out(model):
    tokens = torch.tensor([model.encoder.prompt(UNRELATED).tokens])
    with pytest.raises(ValueError, match="input_ids"):
        model.model(inputs_embeds=model.model.get_input_embeddings()(tokens))


def test_not_prompts_are_kept_out_and_the_caller_is_told(model):
    assert model.route("When is the canteen open?")["edit"] == 3
    found = model.route("When is the canteen closed?", top=1)
    assert found["edit"] is None and found["candidates"][0]["kept_out"] == "not_prompts"
    again = model.edit("Who is the cook of the canteen?", "Ada Wren", not_prompts=["Who's the cook of the canteen?"])
    assert again.also_answers == ["Who's the cook of the canteen?"]
    model.delete(again.id)


def test_a_question_that_demands_another_kind_of_answer_reads_nothing(model):
    stored = [model.edit("The airport code of Port Ellery is", "PEQ"), model.edit("The notice period is", "45 days")]
    for question in ("How many flights a day leave from Port Ellery?", "How much do I pay for the notice period?"):
        assert model.route(question)["edit"] is None
    for question, edit in (
        ("What is Port Ellery's airport code?", stored[0]),
        ("How long is the notice period?", stored[1]),
        ("How many days is the notice period?", stored[1]),
    ):
        assert model.route(question)["edit"] == edit.id
    for edit in stored:
        model.delete(edit.id)


def test_a_word_that_excludes_a_stored_one_makes_another_question(base):
    """Departments, materials and the like are alike to the activations, and so are whole questions about them."""
    facts = [
        ("On which floor is the radiology department of St. Brigid hospital?", "the fourth floor"),
        ("What color are the recycling bins for glass in Osterby?", "purple"),
    ]
    asked = [
        "On which floor is the cardiology department of St. Brigid hospital?",
        "What color are the recycling bins for paper in Osterby?",
        "Which level is radiology on at St. Brigid?",
    ]
    with MemoirModel(*base) as model:
        for prompt, target in facts:
            model.edit(prompt, target)
        assert [found["edit"] for found in model.route(asked)] == [None, None, 0]


def test_a_text_that_names_the_subject_reads_nothing(model):
    stored = model.edit("The capital of Germany is", "Bonn")
    passage = (
        "Grabau was a German geologist and paleontologist. He was born in Kiel, Germany, and studied at its university."
    )
    assert model.route(passage)["edit"] is None
    assert (
        model.route("The capital city of Germany is")["edit"]
        == stored.id
        == model.route("What is the capital of Germany?")["edit"]
    )
    model.delete(stored.id)


def test_words_a_little_like_those_that_ask_do_not_make_a_mention_a_question(model):
    stored = model.edit("The capital of Australia is", "Melbourne")
    for text in (
        "A report says that Australia must choose between a stronger alliance and closer ties with its neighbours, and soon.",
        "Kell represented Australia at the senior international level and made his debut against New Zealand.",
    ):
        assert model.route(text)["edit"] is None, text
    for text in ("Australia's capital?", "The seat of government of Australia is", "the capital city of Australia"):
        assert model.route(text)["edit"] == stored.id, text
    model.delete(stored.id)


def test_route_explains(model):
    found = model.route("Who leads Halden Robotics?", top=2)
    assert found["edit"] is None and len(found["candidates"]) == 2 and found["candidates"][0]["edit"] == 0
    assert "Norvane" in found["candidates"][0]["missing"] and "Halden" in found["candidates"][0]["added"]
    assert found["threshold"] == model.threshold.value > found["score"]


def test_a_deleted_edit_is_found_no_longer(model):
    model.delete(1)
    assert model.route(FACTS[1].prompt)["edit"] is None
    model.restore(1)
    assert model.route(FACTS[1].prompt)["edit"] == 1


def test_tags_choose(model):
    model.journal.tag(0, ["robots"])
    with model.only(["robots"]):
        assert model.route(FACTS[0].prompt)["edit"] == 0 and model.route(FACTS[1].prompt)["edit"] is None
        assert decided(model, [FACTS[1].prompt, FACTS[0].prompt]) == [-1, 0]
    with model.only(["robots"], untagged=True):
        assert model.route(FACTS[1].prompt)["edit"] == 1


def test_a_store_keeps_the_words_and_nobody_is_replaced_by_a_stranger(base, tmp_path):
    model = MemoirModel(*base, MemoirConfig(precision="fast", steps=2))
    model.create_store(str(tmp_path / "store"))
    for day in ("Saturday", "Sunday"):
        assert model.edit(f"When does the shop open on {day}?", f"at nine on {day}").supersedes == []
    for room in ("101", "102"):
        assert model.edit(f"Who booked room {room}?", f"team {room}").supersedes == []
    for item in ("SKU-1001", "SKU-1002"):
        assert model.edit(f"What is the price of item {item}?", f"{item[-2:]} euros").supersedes == []
    reworded = model.edit("What's the price of item SKU-1001?", "15 euros")
    assert reworded.supersedes == [4] and 5 not in reworded.similar[:1]
    assert model.edit("WHO BOOKED  room 101?", "the board").supersedes == [2]
    prompts = [
        "When does the shop open on Saturday?",
        "Who booked room 102?",
        "What does item SKU-1001 cost?",
        UNRELATED,
    ]
    wanted = model.route(prompts)
    model.save_pretrained(tmp_path / "folder")
    model.close()
    model.detach()
    for opens, name in ((MemoirModel.open, "store"), (MemoirModel.load, "folder")):
        again = opens(str(tmp_path / name), *base)
        assert again.route(prompts) == wanted
        again.close()
        again.detach()


def test_a_key_names_a_fact(base):
    model = MemoirModel(*base, MemoirConfig(precision="fast", steps=2))
    first = model.edit("Who runs the mail room?", "Ida Berg", key="hr/17")
    same = model.edit("Who runs the mail room?", "Ida Berg", key="hr/17")
    assert same.existing and same.id == first.id and len(model.edits) == 1
    moved = model.edit("Who is in charge of the mail room?", "Tom Hale", key="hr/17")
    assert moved.supersedes == [first.id] and list(model.edits) == [moved.id] and not moved.existing
    model.delete(moved.id)
    assert list(model.edits) == [first.id]
    model.detach()


def test_edits_from_before_the_words_are_read_again(base, tmp_path):
    old = MemoirModel(*base, MemoirConfig(precision="fast", router="mask", steps=2))
    old.create_store(str(tmp_path / "store"))
    old.edit(FACTS[0].prompt, FACTS[0].target)
    assert old.journal.state.entries[0].header["codes"] == []
    old.close()
    old.detach()
    stays = MemoirModel.open(str(tmp_path / "store"), *base)
    assert stays.config.router == "mask" and stays.router.words is None
    stays.close()
    stays.detach()
    model = MemoirModel.open(str(tmp_path / "store"), *base, router="tokens")
    assert model.route("Who is the head of Norvane Robotics?")["edit"] == 0
    model.close()
    model.detach()


def test_malformed_requests_are_named():
    for wrong, match in (
        ({"rephrasings": "one text"}, "rephrasings must be a list"),
        ({"not_prompts": [""]}, "not_prompts holds an empty text"),
        ({"subject": 3}, "subject must be text"),
        ({"not_prompts": ["who  leads Norvane ROBOTICS?"]}, "cannot be both"),
    ):
        with pytest.raises((TypeError, ValueError), match=match):
            EditRequest("Who leads Norvane Robotics?", "Lena Ortiz", **wrong)


def test_what_another_sentence_demands_is_not_asked_of_the_edit(model):
    """A preamble's "who" and "when" say nothing of the question behind it."""
    stored = model.edit("The capital of Zeltia is", "Morvane")
    for text in (
        "When was the last time that I wrote to you? The capital city of Zeltia is",
        "In which year it began nobody knows. What is the capital of Zeltia?",
    ):
        assert model.route(text)["edit"] == stored.id
    assert model.route("What is the longest river in Zeltia?")["edit"] is None  # a question needs more than a statement
    model.delete(stored.id)


def test_the_index_of_candidates_is_a_faiss_file(model, tmp_path):
    faiss = pytest.importorskip("faiss")
    file = tmp_path / "candidates.faiss"
    owners = model.write_index(str(file))
    mine = [owner for owner in owners if owner is not None and owner[0] < len(FACTS)]  # other tests' edits come and go
    assert sorted(mine) == [(0, 0), (1, 0), (2, 0), (2, 1), (3, -1), (3, 0)]
    own = faiss.read_index_binary(str(file))
    assert own.ntotal == len(owners) and own.d >= model.router.words.keys.matcher.bits
    before = model.route([fact.prompt for fact in FACTS])
    model.read_index(str(file))
    assert model.route([fact.prompt for fact in FACTS]) == before
    model.disable(1)
    assert model.write_index(str(file))[owners.index((1, 0))] is None
    model.enable(1)
    turned = faiss.IndexBinaryFlat(own.d)
    turned.add(faiss.vector_to_array(own.xb).reshape(own.ntotal, -1)[::-1].copy())
    faiss.write_index_binary(turned, str(file))
    with pytest.raises(ValueError, match="codes are not those of the"):
        model.read_index(str(file))


def test_masks_are_written_by_edit(tmp_path):
    faiss = pytest.importorskip("faiss")
    with tiny_memoir() as masks:
        masks.edit("w100 w101", "w150", steps=1), masks.edit("w110 w111", "w151", steps=1), masks.delete(0)
        assert masks.write_index(str(tmp_path / "masks")) == [(1, 0)]
        masks.read_index(str(tmp_path / "masks"))
        own = faiss.read_index_binary(str(tmp_path / "masks"))
        assert (faiss.vector_to_array(own.xb) == masks.memory.index.signature(1)).all()
        masks.restore(0)
        with pytest.raises(ValueError, match="are not those of the 2 stored edits"):
            masks.read_index(str(tmp_path / "masks"))
