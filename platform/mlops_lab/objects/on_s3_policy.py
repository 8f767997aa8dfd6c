"""Who else may read a bucket: S3 bucket policies, which the client of objects does not know, through `boto3`."""

import json

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from mlops_lab.errors import StoreUnreachable
from mlops_lab.objects.place import Place


def let_read(place: Place, reader: str) -> None:
    """Let one more user list and read the bucket of a place, and nothing else. Replaces the bucket's policy; again changes nothing.

    Args:
        place: In the bucket, with the owner's key.
        reader: Access key id of the user.

    Raises:
        StoreUnreachable: The server does not answer, or refuses.
    """
    bucket = f"arn:aws:s3:::{place.bucket}"
    read = [("s3:ListBucket", bucket), ("s3:GetObject", f"{bucket}/*")]
    statements = [{"Effect": "Allow", "Principal": {"AWS": [reader]}, "Action": [act], "Resource": [on]} for act, on in read]
    owned = f"{bucket}/*"
    statements.append({"Effect": "Allow", "Principal": {"AWS": [place.key_id]}, "Action": ["s3:*"], "Resource": [bucket, owned]})
    client = boto3.client(
        "s3",
        endpoint_url=place.endpoint or None,
        region_name=place.region,
        aws_access_key_id=place.key_id or None,
        aws_secret_access_key=place.secret or None,
        config=Config(connect_timeout=min(place.timeout_s, 5), read_timeout=place.timeout_s, retries={"total_max_attempts": 3}),
    )
    try:
        client.put_bucket_policy(Bucket=place.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    except (BotoCoreError, ClientError) as error:
        raise StoreUnreachable.at(place.shown, str(error)) from error
