"""The contracts as documents: JSON Schemas and AsyncAPI, made from `stockwire_client.contract`.

A tool of this repository, beside both packages and in neither distribution: the schemas come from
the client, the topics from `inventory`, and nobody who installs either needs to make them.
"""
