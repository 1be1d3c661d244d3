import type { JwtAuthority } from '../../identity/bundle.ts';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { parseCsr } from '../../identity/x509/csr.ts';
import { keyTypeName } from '../../identity/x509/key.ts';
import type { Bundle as BundleRpc } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import type { SVID as SvidRpc } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import type { JWTKey } from '../../proto/gen/spire/api/types/bundle_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { Authority } from '../authority/authority.ts';
import type { Datastore, Reader } from '../plugins/datastore/datastore.ts';
import { text } from '../plugins/datastore/row.ts';
import { jwtFromMessages, jwtKeyMessage } from '../registry/bundle-message.ts';
import { actorOf, type Caller, type DownstreamCaller } from './callers.ts';

const JWT_KEYS = /^(ec-p256|ec-p384|rsa-2048|rsa-4096)$/;

export interface DownstreamServiceOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly authority: Authority;
  readonly trustDomain: TrustDomain;
  /** How long the authority of a server that wishes for nothing lives. */
  readonly caTtlSeconds: number;
}

/** What servers below this one call, of SPIRE's SVID and bundle APIs. */
export interface DownstreamService {
  readonly svids: Pick<Implementation<typeof SvidRpc, Caller>, 'newDownstreamX509CA'>;
  readonly bundles: Pick<Implementation<typeof BundleRpc, Caller>, 'publishJWTAuthority'>;
}

export function downstreamService(options: DownstreamServiceOptions): DownstreamService {
  const { store, authority } = options;
  return {
    svids: {
      async newDownstreamX509CA({ csr, preferredTtl }, { caller }) {
        const server = downstreamOf(caller);
        const request = {
          id: server.id,
          spki: await keyOfCsr(csr, options.trustDomain),
          notAfter: endOf(preferredTtl, server, options),
          actor: actorOf(server),
          entryId: server.entry.id,
        };
        const { chain, roots } = await store.transaction(async (tx) =>
          authority.signDownstreamCa(tx, { ...request, ...(await agentOf(tx, server)) }),
        );
        return { caCertChain: [...chain], x509Authorities: [...roots] };
      },
    },
    bundles: {
      async publishJWTAuthority({ jwtAuthority }, { caller }) {
        const key = publishable(jwtAuthority);
        const actor = actorOf(downstreamOf(caller));
        const { jwtAuthorities } = await store.transaction((tx) =>
          authority.publishJwtKey(tx, key, actor),
        );
        return { jwtAuthorities: jwtAuthorities.map(jwtKeyMessage) };
      },
    },
  };
}

/** An authority is one of this trust domain, whose name the request need not repeat. */
async function keyOfCsr(csr: Uint8Array, trustDomain: TrustDomain): Promise<Uint8Array> {
  if (csr.length === 0) throw new Fault('INVALID_ARGUMENT', 'missing CSR');
  const { spki, uriSans } = await parseCsr(csr);
  if (uriSans.some((uri) => uri !== `spiffe://${trustDomain}`))
    throw new Fault('INVALID_ARGUMENT', `CSR refused: its URI name is not spiffe://${trustDomain}`);
  return spki;
}

/** A key of a type that a server signs tokens with; one that nobody can read would spoil the bundle. */
function publishable(message: JWTKey | undefined): JwtAuthority {
  const [key] = jwtFromMessages(message === undefined ? [] : [message]);
  if (key === undefined) throw new Fault('INVALID_ARGUMENT', 'missing JWT authority');
  if (!JWT_KEYS.test(keyTypeName(key.publicKey)))
    throw new Fault('INVALID_ARGUMENT', 'the JWT authority is of a key type that is not allowed');
  return key;
}

/** As long as it wishes, and no longer than the entry; the authority's own end is for the signer. */
function endOf(
  preferredTtl: number,
  { entry: { expiresAt } }: DownstreamCaller,
  { clock, caTtlSeconds }: DownstreamServiceOptions,
): Date {
  if (preferredTtl < 0) throw new Fault('INVALID_ARGUMENT', 'preferred_ttl is negative');
  const ttlSeconds = preferredTtl === 0 ? caTtlSeconds : preferredTtl;
  const wished = clock.now().getTime() + ttlSeconds * 1000;
  return new Date(expiresAt === 0n ? wished : Math.min(wished, Number(expiresAt) * 1000));
}

/** The agent that the server has its SVID from; none if an operator minted that. */
async function agentOf(
  reader: Reader,
  { serial }: DownstreamCaller,
): Promise<{ readonly agentId?: string }> {
  const row = await reader.get(
    `select agent_id from ledger where serial = ? and kind = 'x509' and agent_id is not null`,
    serial,
  );
  return row === undefined ? {} : { agentId: text(row, 'agent_id') };
}

function downstreamOf(caller: Caller): DownstreamCaller {
  if (caller.kind !== 'downstream') throw new Error(`${caller.kind} passed for a nested server`);
  return caller;
}
