import type { Grant } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { FutureState, Placed } from './future-state.ts';

/** What a grant gives that its backend does not have. Also of stored grants: the backend may change. */
export function checkRightsFit(
  { value, at }: Placed<Grant>,
  { backends, unread }: FutureState,
): string[] {
  const { backend: name, rights } = value;
  const type = backends.get(name)?.value.type;
  if (type?.case === undefined || unread.has(`Backend/${name}`)) return [];
  if (rights.case !== type.case) {
    const given = rights.case ?? 'rights';
    return [
      `${at([given])}: backend ${name} is of type ${type.case}: expected ${type.case} rights`,
    ];
  }
  if (rights.case !== 'ssh' || type.case !== 'ssh') return [];
  const { logins } = type.value;
  return rights.value.logins.flatMap((login, index) => {
    const path = at(['ssh', 'logins', index]);
    return Object.hasOwn(logins, login) ? [] : [`${path}: backend ${name} has no login ${login}`];
  });
}
