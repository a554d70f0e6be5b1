"""What both engines refuse, and what they allow."""

from creditgate_server.rpc.endpoint import EXECUTE_BYTES_MAX

METADATA_BYTES_MAX = 8 * 1024

OPTIONS = (
    # A second server on the same port must fail, not share it.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", EXECUTE_BYTES_MAX + 1024),
    # Both, since between the two gRPC refuses some requests and not others, as if by chance.
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", 1_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 3),
)
