/** The best value so far of several sweeps over their finished runs. */

import { OVER, axisOver, courseOfBest } from "./best.js";
import { Chart, LOG } from "./chart.js";
import { hitOfCurve, specOfCourses } from "./course.js";
import { counted } from "./numbers.js";
import { Plot } from "./plot.js";
import { metricName } from "./runs.js";
import { palette } from "./theme.js";

const OPTIONS = [OVER, LOG].map((option) => ({ ...option, main: true }));

export class SweepCourses extends Chart {
  #stores = [];

  constructor(figure) {
    super(figure, { name: "sweeps", title: "Best value so far", options: OPTIONS }, { bare: true });
    this.plot = new Plot(this);
  }

  colourOf(place) {
    return palette()[place];
  }

  show(stores) {
    this.#stores = stores;
    this.again();
  }

  paint() {
    const { over, log } = this.wanted;
    const names = [...new Set(this.#stores.map(metricName))];
    const label = names.length === 1 ? names[0] : "best value";
    const courses = this.#stores.map((store, place) => {
      const { points, course } = courseOfBest(store, over);
      const [name, colour] = [store.sweep.name, this.colourOf(place)];
      return { name, colour, width: 2, step: true, x: points.map(({ x }) => x), y: course, hit: hitOfCurve(name, colour) };
    });
    const spec = specOfCourses(courses.filter(({ x }) => x.length), [], { label, x: axisOver(over), y: { label, log } });
    this.explain(courses.map(({ name, colour }) => ({ text: name, colour })));
    const different = names.length > 1 ? ` Their metrics differ: ${names.join(", ")}.` : "";
    this.say(spec ? `${label} of ${counted(courses.length, "sweep")}.${different}` : "No run has finished with a value yet.");
    this.plot.draw(spec);
  }
}
