import { toBinary } from '@bufbuild/protobuf';
import {
  type AttestAgentRequest,
  AttestAgentRequestSchema,
} from '../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import type { Clock } from '../runtime/clock.ts';
import { Fault } from '../runtime/fault.ts';
import type { Call } from '../runtime/grpc-server.ts';
import { begunStream } from './api/begun-stream.ts';
import type { Caller } from './api/callers.ts';
import { withoutPort } from './attestation/attest-agent.ts';
import type { Services } from './endpoints.ts';
import { RateLimit } from './rate-limit.ts';

/** Calls a second of one address; those that sign X.509 share one. Source: SPIRE's own. */
const PER_SECOND = { attest: 1, signX509: 500, signJwt: 500, publish: 500, status: 10 } as const;

/** Evidence and CSR have 64 KiB each. */
const MOST_HELD_BYTES = 256 * 1024;

export interface RateLimitSettings {
  readonly attestation: boolean;
  readonly signing: boolean;
}

/** The services with callers over TCP held to their limits; the admin socket is exempt. */
export function limitedServices<S extends Pick<Services, 'agents' | 'svids' | 'bundles'>>(
  services: S,
  { attestation, signing }: RateLimitSettings,
  clock: Clock,
): S {
  const limit = (perSecond: number, isOn: boolean) => {
    const bucket = new RateLimit({ perSecond, clock });
    return async ({ caller, signal, timeoutMs }: Call<Caller>, count = 1): Promise<void> => {
      if (isOn && caller.kind !== 'local')
        await bucket.take(withoutPort(caller.address), count, signal, { withinMs: timeoutMs });
    };
  };
  const attest = limit(PER_SECOND.attest, attestation);
  const signX509 = limit(PER_SECOND.signX509, signing);
  const signJwt = limit(PER_SECOND.signJwt, signing);
  const publish = limit(PER_SECOND.publish, signing);
  const status = limit(PER_SECOND.status, true);
  const { agents, svids, bundles } = services;

  return {
    ...services,
    agents: {
      ...agents,
      async *attestAgent(requests, call) {
        await using begun = await begunStream(requests);
        refuseLarge(begun.first);
        await attest(call);
        yield* agents.attestAgent(begun.requests, call);
      },
      renewAgent: after(signX509, agents.renewAgent),
      postStatus: after(status, agents.postStatus),
    },
    svids: {
      ...svids,
      ...(svids.batchNewX509SVID && {
        batchNewX509SVID: after(signX509, svids.batchNewX509SVID, ({ params }) => params.length),
      }),
      ...(svids.newJWTSVID && { newJWTSVID: after(signJwt, svids.newJWTSVID) }),
      ...(svids.newDownstreamX509CA && {
        newDownstreamX509CA: after(signX509, svids.newDownstreamX509CA),
      }),
    },
    bundles: {
      ...bundles,
      ...(bundles.publishJWTAuthority && {
        publishJWTAuthority: after(publish, bundles.publishJWTAuthority),
      }),
    },
  };
}

/** It is held while its sender waits, and anybody can be that. */
function refuseLarge(first: AttestAgentRequest | undefined): void {
  if (first !== undefined && toBinary(AttestAgentRequestSchema, first).length > MOST_HELD_BYTES)
    throw new Fault(
      'INVALID_ARGUMENT',
      `the first message is longer than ${MOST_HELD_BYTES} bytes`,
    );
}

type Unary<I, O> = (request: I, call: Call<Caller>) => Promise<O>;

function after<I, O>(
  limit: (call: Call<Caller>, count?: number) => Promise<void>,
  handler: Unary<I, O>,
  countOf: (request: I) => number = () => 1,
): Unary<I, O> {
  return async (request, call) => {
    await limit(call, countOf(request));
    return handler(request, call);
  };
}
