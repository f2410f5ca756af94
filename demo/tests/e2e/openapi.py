"""Checks an OpenAPI document, and that responses of the server conform to it.

Reads {"document": …, "answers": [{"method", "path", "status", "media_type", "body"}]} from standard input, with
the document's paths. Prints one line for each error.
"""

import json
import sys

from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

ADDRESS = "urn:openapi"


def main() -> None:
    given = json.load(sys.stdin)
    document = given["document"]
    for error in OpenAPIV31SpecValidator(document).iter_errors():
        print("document:", "/".join(map(str, error.absolute_path)), error.message)
    resource = Resource(contents=document, specification=DRAFT202012)
    registry = Registry().with_resource(ADDRESS, resource)
    for answer in given["answers"]:
        complain(document, registry, answer)


def complain(document: dict, registry: Registry, answer: dict) -> None:
    method, path, status = answer["method"].lower(), answer["path"], answer["status"]
    name = f"{method} {path} {status}"
    response = document["paths"][path][method]["responses"].get(str(status))
    if response is None:
        print(f"{name}: this status is not described")
        return
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    content = response["content"].get(answer["media_type"])
    if content is None:
        print(f"{name}: {answer['media_type']} is not described")
        return
    # Pointers in it are into the document.
    schema = {"$id": ADDRESS + ":answer", "allOf": [absolute(content["schema"])]}
    validator = OAS31Validator(schema, registry=registry, format_checker=OAS31Validator.FORMAT_CHECKER)
    for error in validator.iter_errors(answer["body"]):
        print(f"{name}:", "/".join(map(str, error.absolute_path)), error.message)


def absolute(schema: dict) -> dict:
    if "$ref" in schema:
        return {"$ref": ADDRESS + schema["$ref"]}
    return schema


main()
