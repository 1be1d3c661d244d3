import type { GatewayService } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import type { Client } from '../../runtime/grpc-client.ts';

/** The server's side of a gateway, over whichever channel is the newest. */
export type GatewayApi = Client<typeof GatewayService>;
