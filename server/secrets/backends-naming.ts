import type { Backend } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { listResources } from '../access/resources.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';

/** The name of the secret that a backend's login is proved by; undefined if the vault holds none. */
export function secretOf({ type }: Backend): string | undefined {
  if (type.case !== 'postgres') return undefined;
  const source = type.value.loginCredential?.source;
  return source?.case === 'secret' ? source.value : undefined;
}

/** Names of the backends whose documents name a secret. */
export async function backendsNaming(reader: Reader, secret: string): Promise<string[]> {
  const named = await secretsByBackend(reader);
  return [...named].flatMap(([backend, name]) => (name === secret ? [backend] : []));
}

/** By backend, the secret that its document names. */
export async function secretsByBackend(reader: Reader): Promise<ReadonlyMap<string, string>> {
  const declared = await listResources(reader, 'Backend');
  return new Map(
    declared.flatMap(({ name, body }) => {
      const secret = body.case === 'backend' ? secretOf(body.value) : undefined;
      return secret === undefined ? [] : [[name, secret] as const];
    }),
  );
}
