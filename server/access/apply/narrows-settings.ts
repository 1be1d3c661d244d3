import type { PostgresBackend } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { BUILT_IN_CEILINGS, isHarmlessSetting } from '../../../runtime/postgres-settings.ts';

type Settings = Pick<PostgresBackend, 'settingsAllowed' | 'settingCeilings'>;

/** Whether a session that was opened under `before` may have changed a setting that `after` keeps. */
export function narrowsSettings(before: Settings, after: Settings): boolean {
  const names = new Set([...named(before), ...named(after)]);
  return [...names].some((name) => highest(name, after) < highest(name, before));
}

function named({ settingsAllowed, settingCeilings }: Settings): string[] {
  return [...settingsAllowed, ...Object.keys(settingCeilings)];
}

/** Below 0: not at all. */
function highest(name: string, { settingsAllowed, settingCeilings }: Settings): number {
  const ceiling = settingCeilings[name];
  if (ceiling !== undefined) return Number(ceiling);
  const isAllowed = isHarmlessSetting(name) || settingsAllowed.includes(name);
  return isAllowed ? (BUILT_IN_CEILINGS.get(name) ?? Number.POSITIVE_INFINITY) : -1;
}
