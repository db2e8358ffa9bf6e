package dag

// Graph is a valid template, ready to be decided about.
type Graph struct {
	Template Template

	order    []int // step indexes, parents first
	index    map[string]int
	parents  [][]int
	children [][]int
}

// Compile validates the template and builds its graph. The error is a Problems with everything that is wrong.
func Compile(t Template) (*Graph, error) {
	if problems := Validate(&t); len(problems) > 0 {
		return nil, problems
	}
	g := &Graph{
		Template: t,
		index:    make(map[string]int, len(t.Steps)),
		parents:  make([][]int, len(t.Steps)),
		children: make([][]int, len(t.Steps)),
	}
	for i := range t.Steps {
		g.index[t.Steps[i].Name] = i
	}
	for i := range t.Steps {
		for _, name := range t.Steps[i].Dependencies {
			parent := g.index[name]
			g.parents[i] = append(g.parents[i], parent)
			g.children[parent] = append(g.children[parent], i)
		}
	}
	g.order = topological(g.parents, g.children)
	return g, nil
}

// Step returns the named step of the template, or nil.
func (g *Graph) Step(name string) *Step {
	if i, ok := g.index[name]; ok {
		return &g.Template.Steps[i]
	}
	return nil
}

// Order returns the steps' names, parents before their children: first those that need nothing, then what they free, and so on.
func (g *Graph) Order() []string { return g.names(g.order) }

// Parents returns the names of the steps that the named one depends on; nil for an unknown name.
func (g *Graph) Parents(name string) []string { return g.neighbours(g.parents, name) }

// Children returns the names of the steps that depend on the named one; nil for an unknown name.
func (g *Graph) Children(name string) []string { return g.neighbours(g.children, name) }

func (g *Graph) neighbours(of [][]int, name string) []string {
	i, ok := g.index[name]
	if !ok {
		return nil
	}
	return g.names(of[i])
}

// Ancestors returns every step above the named one, parents first; nil for an unknown name.
func (g *Graph) Ancestors(name string) []string {
	start, ok := g.index[name]
	if !ok {
		return nil
	}
	seen := make(map[int]bool)
	stack := append([]int(nil), g.parents[start]...)
	for len(stack) > 0 {
		i := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if !seen[i] {
			seen[i] = true
			stack = append(stack, g.parents[i]...)
		}
	}
	above := make([]int, 0, len(seen))
	for _, i := range g.order {
		if seen[i] {
			above = append(above, i)
		}
	}
	return g.names(above)
}

// Sinks returns the number of steps that nothing depends on. The task is complete when all of them are: every other step is
// above one.
func (g *Graph) Sinks() int {
	n := 0
	for _, c := range g.children {
		if len(c) == 0 {
			n++
		}
	}
	return n
}

func (g *Graph) names(indexes []int) []string {
	names := make([]string, len(indexes))
	for i, index := range indexes {
		names[i] = g.Template.Steps[index].Name
	}
	return names
}

// topological sorts by Kahn's algorithm, first freed first. Indexes on or below a cycle are left out.
func topological(parents, children [][]int) []int {
	left := make([]int, len(parents))
	var ready []int
	for i, p := range parents {
		left[i] = len(p)
		if len(p) == 0 {
			ready = append(ready, i)
		}
	}
	order := make([]int, 0, len(parents))
	for len(ready) > 0 {
		i := ready[0]
		ready = ready[1:]
		order = append(order, i)
		for _, c := range children[i] {
			if left[c]--; left[c] == 0 {
				ready = append(ready, c)
			}
		}
	}
	return order
}
