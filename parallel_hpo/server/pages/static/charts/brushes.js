import { UNSET } from "./axes.js";
import { exactText, isMissing, short } from "./numbers.js";

/** Selections by axis name, as values: {low, high, unset} of numbers, or {texts} of categories (null: not set). */
export class Brushes extends Map {
  /** Select what is between two positions; one below the axis includes runs without a value. */
  setPlaces(axis, first, second) {
    const [low, high] = [Math.min(first, second), Math.max(first, second)];
    const unset = low <= UNSET / 2;
    if (axis.numeric) this.set(axis.name, { ...reach(axis, low, high), unset });
    else {
      const inside = axis.texts.filter((text) => low <= axis.place(text) && axis.place(text) <= high);
      this.set(axis.name, { texts: new Set(unset ? [...inside, null] : inside) });
    }
  }

  /** Return both ends of a brush; null if there is none, or it has gaps. */
  places(axis) {
    const brush = this.get(axis.name);
    if (!brush || brush.texts) return null;
    const edge = (value, otherwise) => (value === null ? otherwise : axis.place(value) ?? otherwise);
    const top = brush.none ? UNSET / 2 : Math.min(1.02, edge(brush.high, 1.02));
    return [brush.unset ? UNSET * 1.3 : Math.max(-0.02, edge(brush.low, -0.02)), top];
  }

  takes(name, value) {
    const brush = this.get(name);
    if (!brush) return true;
    const missing = isMissing(value);
    if (brush.texts) return brush.texts.has(missing ? null : exactText(value));
    if (missing) return brush.unset;
    return !brush.none && (brush.low === null || value >= brush.low) && (brush.high === null || value <= brush.high);
  }

  words(axis) {
    return `${axis.label}: ${inWords(this.get(axis.name))}`;
  }
}

/** Positions beyond the axis's ends give no bound. */
function reach(axis, low, high) {
  if (high < 0) return { low: null, high: null, none: true };
  return { low: low <= 0 ? null : axis.unplace(low), high: high >= 1 ? null : axis.unplace(high) };
}

function inWords(brush) {
  if (brush.texts) return [...brush.texts].map((text) => text ?? "not set").join(" or ") || "none";
  const bounds = [brush.low === null ? null : `≥ ${short(brush.low)}`, brush.high === null ? null : `≤ ${short(brush.high)}`];
  const range = brush.none ? null : bounds.filter(Boolean).join(" and ") || "any";
  return [range, brush.unset ? "not set" : null].filter(Boolean).join(" or ");
}
