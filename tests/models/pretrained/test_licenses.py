import pytest

from flaxseg.errors import WeightsError
from flaxseg.models.pretrained.licenses import License, check_license, read_license

CARDS = {
    "---\nlicense: apache-2.0\n---\ntext": License("apache-2.0"),
    "---\r\ntags:\r\n- a\r\nlicense: mit\r\n---\r\n": License("mit"),
    "---\nlicense:\n- cc-by-nc-4.0\n---\n": License("cc-by-nc-4.0"),
    "---\nlicense: 'other'\nlicense_name: lab\nlicense_link: LICENSE\n---\n": License("other", "lab", "LICENSE"),
    "---\ntags: []\n---\nlicense: mit\n": License(),
    "license: mit": License(),
    "": License(),
}


@pytest.mark.parametrize("card", CARDS)
def test_the_license_is_that_of_the_metadata(card):
    assert read_license(card) == CARDS[card]


@pytest.mark.parametrize("name", ["apache-2.0", "MIT", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", ""])
def test_free_licenses_need_no_acceptance(name):
    check_license(License(name), "hf:lab/net", accepted=False)


@pytest.mark.parametrize("name", ["cc-by-nc-4.0", "cc-by-nc-sa-4.0", "other", "apple-amlr", "unknown"])
def test_others_have_to_be_accepted(name):
    with pytest.raises(WeightsError, match=rf"^hf:lab/net: the license of these weights is {name}, .*nothing was load"):
        check_license(License(name), "hf:lab/net", accepted=False)
    check_license(License(name), "hf:lab/net", accepted=True)


def test_a_license_is_shown_with_its_name_and_address():
    assert str(License("other", "lab", "https://lab.example")) == "other (lab), https://lab.example"
    assert (str(License("mit")), str(License())) == ("mit", "not stated")
