package backendtest

import (
	"os"
	"strings"
	"testing"
)

// onStores runs the case that the calling test is named after on each of our stores.
func onStores(t *testing.T) {
	t.Helper()
	t.Parallel()
	for _, x := range Cases() {
		if "Test"+x.Name != t.Name() {
			continue
		}
		for name, hubs := range map[string]NewHub{"file": newSqliteFile, "memory": newSqliteMemory, "model": ModelHub} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				x.Run(t, hubs)
			})
		}
		return
	}
	t.Errorf("there is no case of this name")
}

func TestEachCaseIsNamed(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("cases_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range Cases() {
		if !strings.Contains(string(source), "func Test"+x.Name+"(") {
			t.Errorf("case %s has no test of its name", x.Name)
		}
	}
}

func TestC01EventsBeforeStart(t *testing.T)                    { onStores(t) }
func TestC02EventsOfOneNameAreAFIFO(t *testing.T)              { onStores(t) }
func TestC02EventsForAChildOfTheSameTurn(t *testing.T)         { onStores(t) }
func TestC04WaitersOfOneNameAreApart(t *testing.T)             { onStores(t) }
func TestC06ContinueAsNewKeepsABurst(t *testing.T)             { onStores(t) }
func TestC06ContinueAsNewDropsEventsByDefault(t *testing.T)    { onStores(t) }
func TestC08ChildIDsDifferBetweenGenerations(t *testing.T)     { onStores(t) }
func TestC09ActionsBeforeContinueAsNewTakeEffect(t *testing.T) { onStores(t) }
func TestC09ActionsOfTheLastTurnTakeEffect(t *testing.T)       { onStores(t) }
func TestC11TerminateWinsInABatch(t *testing.T)                { onStores(t) }
func TestC11TerminateRacesATimer(t *testing.T)                 { onStores(t) }
func TestC11TerminateSparesWhoHasTheID(t *testing.T)           { onStores(t) }
func TestC12TerminateASuspendedInstance(t *testing.T)          { onStores(t) }
func TestC13TerminateBeforeTheStartTime(t *testing.T)          { onStores(t) }
func TestC15TerminateStopsActivities(t *testing.T)             { onStores(t) }
func TestC17RecursivePurgeIsIdempotent(t *testing.T)           { onStores(t) }
func TestC17PurgeOfACircle(t *testing.T)                       { onStores(t) }
func TestC18ResultForAPurgedInstance(t *testing.T)             { onStores(t) }
func TestC20ForceWithoutTheHistory(t *testing.T)               { onStores(t) }
func TestC20ForcedEndsReachTheParent(t *testing.T)             { onStores(t) }
func TestC20TerminateADamagedInstance(t *testing.T)            { onStores(t) }
func TestC21OneStarterWins(t *testing.T)                       { onStores(t) }
func TestC21AClientAndAParentRace(t *testing.T)                { onStores(t) }
func TestC23TakenChildIDFailsTheTask(t *testing.T)             { onStores(t) }
func TestC23TwoParentsRaceForAChildID(t *testing.T)            { onStores(t) }
func TestC24IDs(t *testing.T)                                  { onStores(t) }
func TestC25StartTime(t *testing.T)                            { onStores(t) }
func TestC26UnknownNames(t *testing.T)                         { onStores(t) }
func TestC28FarAndPastTimers(t *testing.T)                     { onStores(t) }
func TestC28TimersOfTheNextGeneration(t *testing.T)            { onStores(t) }
func TestC30UnusualRetryPolicies(t *testing.T)                 { onStores(t) }
func TestC32ATaskHasOneResult(t *testing.T)                    { onStores(t) }
func TestC32NoTimerAfterTheLastAttempt(t *testing.T)           { onStores(t) }
func TestC32RetryHandlers(t *testing.T)                        { onStores(t) }
func TestC33RetriedChildren(t *testing.T)                      { onStores(t) }
func TestC34ActivityLongerThanItsLock(t *testing.T)            { onStores(t) }
func TestC36DuplicateCompletions(t *testing.T)                 { onStores(t) }
func TestC37ShutdownAbandonsActivities(t *testing.T)           { onStores(t) }
func TestC38ShutdownKeepsItsDeadline(t *testing.T)             { onStores(t) }
func TestC38ShutdownLetsWorkFinish(t *testing.T)               { onStores(t) }
func TestC40WideTurns(t *testing.T)                            { onStores(t) }
func TestC44Paging(t *testing.T)                               { onStores(t) }
func TestC49AnEndedContext(t *testing.T)                       { onStores(t) }
func TestC51ChangedCode(t *testing.T)                          { onStores(t) }
func TestC52PanicsInUserCode(t *testing.T)                     { onStores(t) }
func TestC54ValuesEndToEnd(t *testing.T)                       { onStores(t) }
func TestC54UnserialisableValues(t *testing.T)                 { onStores(t) }
func TestC56TasksStartInOrder(t *testing.T)                    { onStores(t) }
func TestC56TheSameDecisionsEachTime(t *testing.T)             { onStores(t) }
func TestC63ADamagedInstanceStopsAlone(t *testing.T)           { onStores(t) }
func TestC64AnInstanceWithoutItsStart(t *testing.T)            { onStores(t) }
func TestC64AnActivityWithoutAResult(t *testing.T)             { onStores(t) }
func TestC64ATurnThatAlwaysFails(t *testing.T)                 { onStores(t) }
func TestC64ATurnThatCannotBeStored(t *testing.T)              { onStores(t) }
func TestC64TextThatCannotBeStored(t *testing.T)               { onStores(t) }
func TestRewindAfterABug(t *testing.T)                         { onStores(t) }
func TestRewindLearnsOfTheChildren(t *testing.T)               { onStores(t) }
func TestRewindOfATree(t *testing.T)                           { onStores(t) }
func TestRewindGetsTheLocksBack(t *testing.T)                  { onStores(t) }
func TestEntitiesKeepTheOrder(t *testing.T)                    { onStores(t) }
func TestEntityFailuresAreUndone(t *testing.T)                 { onStores(t) }
func TestEntityLocksExclude(t *testing.T)                      { onStores(t) }
func TestEntityLocksEndWithTheirOwner(t *testing.T)            { onStores(t) }
func TestEntitySignalsHaveATime(t *testing.T)                  { onStores(t) }
func TestEntityStorage(t *testing.T)                           { onStores(t) }
func TestEntityIDsAreApart(t *testing.T)                       { onStores(t) }

// TestModel runs the contract on the model; package sqlite runs it on its store.
func TestModel(t *testing.T) { RunTests(t, ModelHub, Contract()...) }
