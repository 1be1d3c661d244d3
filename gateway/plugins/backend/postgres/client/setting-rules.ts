import type { PostgresBackend } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import {
  BUILT_IN_CEILINGS,
  CEILING_UNITS,
  isHarmlessSetting,
  settingAmount,
} from '../../../../../runtime/postgres-settings.ts';

/** Names of the rules that refuse a change of a setting which is not pinned. */
export type SettingRefusal = 'setting-not-allowed' | 'setting-too-high';

export interface SettingChange {
  /** In lower case. */
  readonly name: string;
  /** As the client writes it; undefined if the statement does not tell it. */
  readonly value: string | undefined;
}

/** What sessions of one backend may set (threats P11). Pinned settings are not judged here. */
export class SettingRules {
  readonly #allowed: ReadonlySet<string>;
  readonly #ceilings: ReadonlyMap<string, number>;

  constructor(
    backend: Pick<PostgresBackend, 'settingsAllowed' | 'settingCeilings'> = NOTHING_MORE,
  ) {
    const named = Object.entries(backend.settingCeilings);
    const ceilings = named.map(([name, most]) => [name, Number(most)] as const);
    this.#ceilings = new Map([...BUILT_IN_CEILINGS, ...ceilings]);
    this.#allowed = new Set([...backend.settingsAllowed, ...this.#ceilings.keys()]);
  }

  /** The first refusal of some changes; undefined if all may happen. */
  refuse(changes: readonly SettingChange[]): SettingRefusal | undefined {
    for (const change of changes) {
      const refusal = this.#refuseOne(change);
      if (refusal !== undefined) return refusal;
    }
    return undefined;
  }

  /** What a session starts with where its client asks for no less: no timeout is no ceiling. */
  startingTimeouts(): readonly (readonly [string, string])[] {
    return [...this.#ceilings]
      .filter(([name]) => CEILING_UNITS.get(name) === 'ms')
      .map(([name, most]) => [name, String(most)]);
  }

  #refuseOne({ name, value }: SettingChange): SettingRefusal | undefined {
    const ceiling = this.#ceilings.get(name);
    if (ceiling !== undefined) {
      const amount = settingAmount(CEILING_UNITS.get(name) ?? 'count', value ?? '');
      return amount !== undefined && amount <= ceiling ? undefined : 'setting-too-high';
    }
    return isHarmlessSetting(name) || this.#allowed.has(name) ? undefined : 'setting-not-allowed';
  }
}

const NOTHING_MORE = { settingsAllowed: [], settingCeilings: {} };
